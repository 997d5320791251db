// Q2_K: 256 values in sixteen runs of 16; x = (d * scale) * code - (dmin * min), scale and min of 4 bits, codes of 2.
#pragma once

#include "tensor/quant/bits.h"

namespace sonde::quant::SONDE_ISA {

struct Q2_K {
  static constexpr const char* kName = "Q2_K";
  static constexpr int kId = 10, kBlock = 256, kBytes = 84;

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      const float d = half(p + 80), dmin = half(p + 82);
      const uint8_t* scale = p;
      for (int h = 0; h < 2; ++h) {
        for (int j = 0; j < 4; ++j) {
          for (int r = 0; r < 2; ++r, ++scale, out += 16) {
            const float dl = d * float(*scale & 15), ml = dmin * float(*scale >> 4);
            const uint8_t* __restrict q = p + 16 + 32 * h + 16 * r;
            for (int k = 0; k < 16; ++k) out[k] = dl * float(q[k] >> 2 * j & 3) - ml;
          }
        }
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
