// Q5_K: Q4_K with a fifth bit: bit i of byte k in the mask belongs to element k of run i.
#pragma once

#include "tensor/quant/k_scales.h"

namespace sonde::quant::SONDE_ISA {

struct Q5_K {
  static constexpr const char* kName = "Q5_K";
  static constexpr int kId = 13, kBlock = 256, kBytes = 176;

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      const float d = half(p), dmin = half(p + 2);
      const KScales s = k_scales(p + 4);
      const uint8_t* __restrict high = p + 16;
      for (int c = 0; c < 4; ++c, out += 64) {
        const uint8_t* __restrict q = p + 48 + 32 * c;
        const float d0 = d * float(s.scale[2 * c]), m0 = dmin * float(s.min[2 * c]);
        const float d1 = d * float(s.scale[2 * c + 1]), m1 = dmin * float(s.min[2 * c + 1]);
        for (int k = 0; k < 32; ++k) out[k] = d0 * float((q[k] & 15) | (high[k] >> 2 * c & 1) << 4) - m0;
        for (int k = 0; k < 32; ++k) out[k + 32] = d1 * float((q[k] >> 4) | (high[k] >> (2 * c + 1) & 1) << 4) - m1;
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
