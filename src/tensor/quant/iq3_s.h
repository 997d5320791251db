// IQ3_S: 256 values in runs of 4: nine bits of codebook index (one apart), own signs; a 4-bit scale for each 32.
#pragma once

#include "tensor/quant/iq.h"

namespace sonde::quant::SONDE_ISA {

struct IQ3_S {
  static constexpr const char* kName = "IQ3_S";
  static constexpr int kId = 21, kBlock = 256, kBytes = 110;

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      const float d = half(p);
      for (int i = 0; i < 8; ++i) {
        const float db = d * float(1 + 2 * (p[106 + i / 2] >> 4 * (i % 2) & 15));
        const uint32_t high = p[66 + i];
        for (int l = 0; l < 4; ++l, out += 8) {
          const uint8_t* index = p + 2 + 8 * i + 2 * l;
          const uint32_t first = index[0] | (high >> 2 * l & 1u) << 8, second = index[1] | (high >> (2 * l + 1) & 1u) << 8;
          signed_run(db, join(kIq3S.values[first], kIq3S.values[second]).values, p[74 + 4 * i + l], out);
        }
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
