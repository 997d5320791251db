#include "base/cpu.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace sonde {
namespace {

#if defined(__x86_64__)
uint64_t xgetbv0() {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

bool bit(unsigned word, int index) { return (word >> index & 1) != 0; }

CpuFeatures detect() {
  CpuFeatures f;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0, &a, &b, &c, &d))
    f.few_nontemporal = b == signature_INTEL_ebx && c == signature_INTEL_ecx && d == signature_INTEL_edx;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return f;
  const bool osxsave = bit(c, 27), fma = bit(c, 12), f16c = bit(c, 29);
  if (!osxsave) return f;
  const uint64_t state = xgetbv0();
  const bool ymm = (state & 0x6) == 0x6, zmm = (state & 0xe6) == 0xe6, tiles = (state & 0x60000) == 0x60000;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return f;
  f.avx2 = ymm && bit(b, 5) && fma && f16c;
  f.avx512 = f.avx2 && zmm && bit(b, 16) && bit(b, 17) && bit(b, 30) && bit(b, 31);  // F, DQ, BW, VL
  f.avx512_vnni = f.avx512 && bit(c, 11);
  const bool amx_bf16 = bit(d, 22), amx_tile = bit(d, 24), amx_int8 = bit(d, 25);
  unsigned a1 = 0, b1 = 0, c1 = 0, d1 = 0;
  if (a >= 1 && __get_cpuid_count(7, 1, &a1, &b1, &c1, &d1)) f.avx512_bf16 = f.avx512 && bit(a1, 5);
  if (tiles && amx_tile && (amx_bf16 || amx_int8)) {
    constexpr int kRequestPermission = 0x1023, kTileData = 18;  // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
    const bool granted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
    f.amx_int8 = granted && amx_int8;
    f.amx_bf16 = granted && amx_bf16;
    f.amx_refused = !granted;
  }
  return f;
}
#elif defined(__aarch64__)
CpuFeatures detect() {
  const unsigned long has = getauxval(AT_HWCAP);
  CpuFeatures f;
  f.neon = (has & HWCAP_ASIMD) != 0;
  f.neon_dotprod = f.neon && (has & HWCAP_ASIMDDP) != 0;
  return f;
}
#else
CpuFeatures detect() { return {}; }
#endif

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

int64_t last_level_cache() {
  long most = 0;
  for (const int level : {_SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE, _SC_LEVEL4_CACHE_SIZE}) {
    most = std::max(most, sysconf(level));
  }
  return most;
}

std::string cpu_name() {
  std::string name = "unknown processor";
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const std::size_t colon = line.find(": ");
    if (line.compare(0, 10, "model name") == 0 && colon != std::string::npos) {
      name = line.substr(colon + 2);
      break;
    }
  }
  const CpuFeatures& f = cpu_features();
  std::string list;
  const auto add = [&](bool has, const char* word) {
    if (has) list += (list.empty() ? "" : ", ") + std::string(word);
  };
  add(f.avx512, "AVX-512");
  add(f.avx2 && !f.avx512, "AVX2");
  add(f.avx512_vnni, "VNNI");
  add(f.avx512_bf16, "BF16");
  add(f.amx_int8 || f.amx_bf16, "AMX");
  add(f.neon, "NEON");
  add(f.neon_dotprod, "dot product");
  return list.empty() ? name : name + " (" + list + ")";
}

std::string cpu_class() {
  const CpuFeatures& f = cpu_features();
  if (f.amx_int8 && f.amx_bf16) return "B";
  if (f.avx512_vnni && f.avx512_bf16) return "C";
  return f.avx2 && !f.avx512 ? "A" : "";
}

}  // namespace sonde
