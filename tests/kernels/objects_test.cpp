// Code compiled for one instruction set must never be linked into another's path: an inline function that AVX-512 and
// portable files both emit is merged by the linker, and whichever copy wins runs everywhere.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>

#include "kernels/table.h"

namespace sonde::test {
namespace {

std::string output_of(const std::string& command) {
  std::string text;
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return text;
  char part[4096];
  for (std::size_t n; (n = fread(part, 1, sizeof part, pipe)) > 0;) text.append(part, n);
  pclose(pipe);
  return text;
}

TEST(Objects, InstructionSetsShareNoCode) {
  const std::filesystem::path library =
      std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path() / "libsonde_kernels.a";
  if (!std::filesystem::exists(library)) GTEST_SKIP() << "no " << library << " beside the tests";
  int objects = 0;
  for (const kernels::InstructionSet* each : kernels::instruction_sets()) {
    const std::string set = each->name;
    if (set == "portable") continue;  // as everything else is compiled
    const std::string symbols = output_of("cd /tmp && nm -C --defined-only '" + library.string() + "' 2>/dev/null");
    if (symbols.empty()) GTEST_SKIP() << "nm cannot read " << library;
    const std::size_t start = symbols.find("\n" + set + ".cpp.o:\n");
    ASSERT_NE(start, std::string::npos) << set << " not found in " << library;
    ++objects;
    const std::size_t from = start + set.size() + 9, end = std::min(symbols.find("\n\n", from), symbols.size());
    for (std::size_t line = from; line < end;) {
      const std::size_t stop = std::min(symbols.find('\n', line), end);
      const std::string symbol = symbols.substr(line, stop - line);
      line = stop + 1;
      const std::size_t space = symbol.find(' ');
      if (space == std::string::npos || symbol.size() < space + 4) continue;
      const char kind = symbol[space + 1];
      const std::string name = symbol.substr(space + 3);
      const bool shared = kind == 'W' || kind == 'V' || kind == 'u' || kind == 'T' || kind == 'B' || kind == 'D' || kind == 'R';
      const bool own = name.find("sonde::quant::" + set + "::") != std::string::npos ||
                       name == "sonde::kernels::" + set + "::kSet";
      const bool tooling = name.rfind("__", 0) == 0 || name.rfind("DW.ref", 0) == 0;  // sanitizers' and unwinding's own
      EXPECT_TRUE(!shared || own || tooling) << set << " defines " << symbol;
    }
  }
#if defined(__x86_64__) || defined(__aarch64__)
  EXPECT_GT(objects, 0);
#endif
}

}  // namespace
}  // namespace sonde::test
