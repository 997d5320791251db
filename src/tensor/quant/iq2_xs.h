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
      for (int i = 0; i < 32; ++i, out += 8) {
        const uint32_t q = load<uint16_t>(p + 2 + 2 * i), scale = p[66 + i / 4] >> (i & 2) * 2 & 15u;
        signed_run(d * (0.5f + float(scale)) * 0.25f, kIq2Xs.values[q & 511], even_signs(q >> 9), out);
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
