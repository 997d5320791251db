// IQ2_XS: 256 values in runs of 8: nine bits of codebook index, seven signs; a 4-bit scale for each sixteen.
#pragma once

#include "tensor/quant/iq.h"

namespace sonde::quant::SONDE_ISA {

struct IQ2_XS {
  static constexpr const char* kName = "IQ2_XS";
  static constexpr int kId = 17, kBlock = 256, kBytes = 74;

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      const float d = half(p);
      for (int i = 0; i < 16; ++i, out += 16) {
        const uint32_t q0 = load<uint16_t>(p + 2 + 4 * i), q1 = load<uint16_t>(p + 4 + 4 * i);
        const uint32_t scale = p[66 + i / 2] >> 4 * (i % 2) & 15u, signs = even_signs(q0 >> 9) | even_signs(q1 >> 9)
                                                                                                     << 8;
        signed_run(d * (0.5f + float(scale)) * 0.25f, eight(kIq2Xs.values[q0 & 511]), eight(kIq2Xs.values[q1 & 511]),
                   signs, out);
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
