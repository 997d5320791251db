// Q6_K: 256 values in sixteen runs of 16; x = (d * scale) * (code - 32), scales signed bytes, codes of 6 bits.
#pragma once

#include "tensor/quant/bits.h"

namespace sonde::quant::SONDE_ISA {

struct Q6_K {
  static constexpr const char* kName = "Q6_K";
  static constexpr int kId = 14, kBlock = 256, kBytes = 210;

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      const float d = half(p + 208);
      for (int h = 0; h < 2; ++h, out += 128) {
        const uint8_t* __restrict low = p + 64 * h;
        const uint8_t* __restrict high = p + 128 + 32 * h;
        const uint8_t* scale = p + 192 + 8 * h;
        float s[8];
        for (int j = 0; j < 8; ++j) s[j] = d * float(int8_t(scale[j]));
        for (int r = 0; r < 2; ++r) {  // runs of 16: elements 16 r + k of each quarter
          for (int k = 16 * r; k < 16 * r + 16; ++k) out[k] = s[r] * float(((low[k] & 15) | (high[k] & 3) << 4) - 32);
          for (int k = 16 * r; k < 16 * r + 16; ++k) out[k + 32] = s[r + 2] * float(((low[k + 32] & 15) | (high[k] >> 2 & 3) << 4) - 32);
          for (int k = 16 * r; k < 16 * r + 16; ++k) out[k + 64] = s[r + 4] * float((low[k] >> 4 | (high[k] >> 4 & 3) << 4) - 32);
          for (int k = 16 * r; k < 16 * r + 16; ++k) out[k + 96] = s[r + 6] * float((low[k + 32] >> 4 | high[k] >> 6 << 4) - 32);
        }
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
