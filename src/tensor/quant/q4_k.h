// Q4_K: 256 values in eight runs of 32; x = (d * scale) * code - (dmin * min), scales and mins of 6 bits, codes of 4.
#pragma once

#include "tensor/quant/k_scales.h"

namespace sonde::quant::SONDE_ISA {

struct Q4_K {
  static constexpr const char* kName = "Q4_K";
  static constexpr int kId = 12, kBlock = 256, kBytes = 144;

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      const float d = half(p), dmin = half(p + 2);
      const KScales s = k_scales(p + 4);
      for (int c = 0; c < 4; ++c, out += 64) {
        const uint8_t* __restrict q = p + 16 + 32 * c;
        const float d0 = d * float(s.scale[2 * c]), m0 = dmin * float(s.min[2 * c]);
        const float d1 = d * float(s.scale[2 * c + 1]), m1 = dmin * float(s.min[2 * c + 1]);
        for (int k = 0; k < 32; ++k) out[k] = d0 * float(q[k] & 15) - m0;
        for (int k = 0; k < 32; ++k) out[k + 32] = d1 * float(q[k] >> 4) - m1;
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
