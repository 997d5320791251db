// IQ2_XXS: 256 values in eight runs of 32: four bytes index the codebook; a word holds four patterns of seven signs and
// a 4-bit scale.
#pragma once

#include "tensor/quant/iq.h"

namespace sonde::quant::SONDE_ISA {

struct IQ2_XXS {
  static constexpr const char* kName = "IQ2_XXS";
  static constexpr int kId = 16, kBlock = 256, kBytes = 66;

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      const float d = half(p);
      for (int i = 0; i < 8; ++i, out += 32) {
        const uint8_t* index = p + 2 + 8 * i;
        const uint32_t word = load<uint32_t>(index + 4);
        const float db = d * (0.5f + float(word >> 28)) * 0.25f;
        for (int l = 0; l < 4; l += 2) {
          const uint32_t signs = even_signs(word >> 7 * l) | even_signs(word >> (7 * l + 7)) << 8;
          signed_run(db, eight(kIq2Xxs.values[index[l]]), eight(kIq2Xxs.values[index[l + 1]]), signs, out + 8 * l);
        }
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
