// IQ3_XXS: 256 values in eight runs of 32: eight bytes index a codebook of fours; words of signs and scale as in
// IQ2_XXS.
#pragma once

#include "tensor/quant/iq.h"

namespace sonde::quant::SONDE_ISA {

struct IQ3_XXS {
  static constexpr const char* kName = "IQ3_XXS";
  static constexpr int kId = 18, kBlock = 256, kBytes = 98;

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      const float d = half(p);
      for (int i = 0; i < 8; ++i, out += 32) {
        const uint32_t word = load<uint32_t>(p + 66 + 4 * i);
        const float db = d * (0.5f + float(word >> 28)) * 0.5f;
        for (int l = 0; l < 4; l += 2) {
          const uint8_t* q = p + 2 + 8 * i + 2 * l;
          const uint32_t signs = even_signs(word >> 7 * l) | even_signs(word >> (7 * l + 7)) << 8;
          signed_run(db, eight(kIq3Xxs.values[q[0]], kIq3Xxs.values[q[1]]),
                     eight(kIq3Xxs.values[q[2]], kIq3Xxs.values[q[3]]), signs, out + 8 * l);
        }
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
