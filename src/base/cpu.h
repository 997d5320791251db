// What this processor and system can do.
#pragma once

#include <cstdint>
#include <string>

namespace sonde {

struct CpuFeatures {
  bool avx2 = false;         // with FMA and F16C
  bool avx512 = false;       // F, BW, VL, DQ
  bool avx512_vnni = false;
  bool avx512_bf16 = false;
  bool amx_int8 = false;     // the processor has it and the system granted tile data
  bool amx_bf16 = false;     // likewise
  bool amx_refused = false;  // the processor has tiles, the system did not grant their data
  bool few_nontemporal = false;  // keeps few non-temporal fetches under way, more into its second-level cache (Intel)
  bool neon = false;
  bool neon_dotprod = false;
};

const CpuFeatures& cpu_features();
// Bytes; 0 where the system does not say.
int64_t last_level_cache();
// "AMD EPYC (AVX-512, VNNI, BF16)": for reports.
std::string cpu_name();
// The class of machines that bench/peers.md has figures of: "A" (AVX2 alone), "B" (AMX), "C" (AVX-512 with VNNI and BF16, no AMX);
// "" for others.
std::string cpu_class();

}  // namespace sonde
