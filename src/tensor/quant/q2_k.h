// Q2_K: 256 values in sixteen runs of 16; x = (d * scale) * code - (dmin * min), scale and min of 4 bits, codes of 2.
#pragma once

#include "tensor/quant/codes.h"

namespace sonde::quant::SONDE_ISA {

struct Q2_K {
  static constexpr const char* kName = "Q2_K";
  static constexpr int kId = 10, kBlock = 256, kBytes = 84;

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      const float d = half(p + 80), dmin = half(p + 82);
      for (int i = 0; i < 16;
           ++i, out += 16) {  // run i: half i / 8 of the block, bits 2 (i / 2 % 4), bytes 16 (i % 2) ...
        const UCodes q = load_codes(p + 16 + 32 * (i / 8) + 16 * (i % 2));
        emit(q >> 2 * (i / 2 % 4) & 3, d * float(p[i] & 15), -(dmin * float(p[i] >> 4)), out);
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
