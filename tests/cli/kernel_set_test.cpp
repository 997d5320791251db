// Which instruction set the program computes with: the one that SONDE_ISA names, the best where that is none, the next
// best where the system refuses the tiles of AMX.
#include <cmath>

#include "base/cpu.h"
#include "cli/program.h"
#include "kernels/kernels.h"

#if defined(__x86_64__)
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>
#include <iterator>
#endif

namespace sonde::test {
namespace {

// SONDE_ISA of the programs that are started while this lives.
class Isa {
 public:
  explicit Isa(const std::string& name) {
    if (const char* given = std::getenv("SONDE_ISA")) before_ = given;
    setenv("SONDE_ISA", name.c_str(), 1);
  }
  ~Isa() { before_.empty() ? unsetenv("SONDE_ISA") : setenv("SONDE_ISA", before_.c_str(), 1); }
  Isa(const Isa&) = delete;
  Isa& operator=(const Isa&) = delete;

 private:
  std::string before_;
};

// The name that the program gives its set.
std::string named_set() {
  const Ran ran = run({"plan", mini(), "--seconds", "0.02", "--json"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  return ran.code == 0 ? ran.json()["machine"]["kernels"].get<std::string>() : "";
}

// A text by the embedded model: on the fast path sets with another arithmetic differ in the last digits of its mean.
Ran text_on(const std::string& path) {
  const std::string text = contents(mini() + "/problems.jsonl").substr(0, 400);
  return run({"perplexity", mini(), "--file", "-", "--window", "100", path, "--json"}, {.input = text});
}
Ran fast_text() { return text_on("--fast"); }
double mean_nll(const Ran& ran) {
  EXPECT_EQ(ran.code, 0) << ran.err;
  return ran.code == 0 ? ran.json()["mean_nll"].get<double>() : NAN;
}

TEST(KernelSet, IsTheOneThatIsNamed) {
  const std::string name = kernel_sets().back() == "avx2" || !choose_kernel_set("avx2").ok() ? "portable" : "avx2";
  if (kernel_sets().back() == name) GTEST_SKIP() << "this processor has no set beside the portable one";
  const Isa isa(name);
  EXPECT_EQ(named_set(), name);
  for (const char* path : {"--fast", "--exact"}) {
    const Ran ran = text_on(path);
    EXPECT_EQ(ran.code, 0);
    EXPECT_EQ(ran.err.find("SONDE_ISA"), std::string::npos) << ran.err;
  }
}

TEST(KernelSet, IsTheBestAndSaysSoWhereNoneIsNamed) {
  const Isa isa("avx3");
  EXPECT_EQ(named_set(), kernel_sets().back());
  for (const char* path : {"--fast", "--exact"}) {
    const Ran ran = text_on(path);
    EXPECT_EQ(ran.code, 0);
    const std::size_t told = ran.err.find("SONDE_ISA names no instruction set");
    ASSERT_NE(told, std::string::npos) << path << ": " << ran.err;
    EXPECT_EQ(ran.err.find("SONDE_ISA", told + 1), std::string::npos) << "told twice: " << ran.err;
  }
  const Folder folder;
  const std::vector<std::vector<std::string>> others = {
      {"logits", mini(), "--ids", "1,2", "--out", folder / "l.safetensors"},
      {"generate", mini(), "--ids", "1,2", "--max-tokens", "1", "--exact"}};
  for (const auto& other : others) {
    const Ran ran = run(other);
    EXPECT_EQ(ran.code, 0) << ran.err;
    EXPECT_NE(ran.err.find("SONDE_ISA names no instruction set"), std::string::npos) << other[0] << ": " << ran.err;
  }
}

#if defined(__x86_64__)
// From here on this thread, and the programs that it starts, are not granted tiles. False where filters cannot be had.
bool refuse_tiles() {
  constexpr unsigned kRequestPermission = 0x1023;  // arch_prctl's ARCH_REQ_XCOMP_PERM
  const auto load = [](unsigned offset) { return sock_filter(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)); };
  // Goes on where the word loaded is `value`, else passes over the `rest` instructions before the last.
  const auto only = [](unsigned value, unsigned char rest) {
    return sock_filter(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, rest));
  };
  const auto give = [](unsigned verdict) { return sock_filter(BPF_STMT(BPF_RET | BPF_K, verdict)); };
  sock_filter filter[] = {load(offsetof(seccomp_data, arch)),    only(AUDIT_ARCH_X86_64, 5),
                          load(offsetof(seccomp_data, nr)),      only(SYS_arch_prctl, 3),
                          load(offsetof(seccomp_data, args[0])), only(kRequestPermission, 1),
                          give(SECCOMP_RET_ERRNO | EPERM),       give(SECCOMP_RET_ALLOW)};
  const sock_fprog program{std::size(filter), filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// As under a kernel that keeps tiles from a process, or a container that filters the request.
TEST(KernelSet, IsTheNextBestWhereTilesAreRefused) {
  const CpuFeatures& f = cpu_features();
  if (!f.amx_int8 && !f.amx_bf16) GTEST_SKIP() << "this processor has no AMX, or the system refuses it here, too";
  std::vector<std::string> sets;
  for (const std::string_view name : kernel_sets())
    if (name != "amx") sets.emplace_back(name);

  bool refused = false;
  std::string name;
  Ran ran, exact;
  std::thread([&] {
    refused = refuse_tiles();
    if (refused) name = named_set(), ran = fast_text(), exact = text_on("--exact");
  }).join();
  if (!refused) GTEST_SKIP() << "no filter of system calls can be had here";
  EXPECT_EQ(name, sets.back());
  EXPECT_NE(ran.err.find("refuses its tiles"), std::string::npos) << ran.err;
  EXPECT_NE(exact.err.find("refuses its tiles"), std::string::npos) << exact.err;
  const Isa isa(sets.back());
  EXPECT_EQ(mean_nll(ran), mean_nll(fast_text()));
}
#endif

}  // namespace
}  // namespace sonde::test
