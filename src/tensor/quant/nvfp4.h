// NVFP4: 64 values of e2m1 in four runs of 16, each under an unsigned e4m3 scale.
#pragma once

#include "tensor/quant/codes.h"

namespace sonde::quant::SONDE_ISA {

struct NVFP4 {
  static constexpr const char* kName = "NVFP4";
  static constexpr int kId = 40, kBlock = 64, kBytes = 36;

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      for (int s = 0; s < 4; ++s, out += 16)
        emit(lookup(kTwiceE2m1, nibbles_of_eight(p + 4 + 8 * s)), half_ue4m3(p[s]), out);
    }
  }

  // Half of the scale's value; 0x7F reads as zero, as in ggml. Bit 7 is not used.
  static float half_ue4m3(uint8_t e) {
    const uint32_t m = e & 0x7Fu;
    if (m == 0x7Fu) return 0.0f;
    return m < 8 ? float(int32_t(m)) * 0x1p-10f : float_of((m << 20) + (119u << 23));
  }
};

}  // namespace sonde::quant::SONDE_ISA
