// IQ3_XXS: 256 values in eight runs of 32: eight bytes index a codebook of fours; words of signs and scale as in IQ2_XXS.
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
      for (int i = 0; i < 8; ++i) {
        const uint32_t word = load<uint32_t>(p + 66 + 4 * i);
        const float db = d * (0.5f + float(word >> 28)) * 0.5f;
        for (int l = 0; l < 4; ++l, out += 8) {
          const uint8_t* index = p + 2 + 8 * i + 2 * l;
          signed_run(db, join(kIq3Xxs.values[index[0]], kIq3Xxs.values[index[1]]).values, even_signs(word >> 7 * l), out);
        }
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
