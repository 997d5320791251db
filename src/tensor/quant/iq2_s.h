// IQ2_S: 256 values in runs of 8: ten bits of codebook index (two apart), eight signs; a 4-bit scale for each sixteen.
#pragma once

#include "tensor/quant/iq.h"

namespace sonde::quant::SONDE_ISA {

struct IQ2_S {
  static constexpr const char* kName = "IQ2_S";
  static constexpr int kId = 22, kBlock = 256, kBytes = 82;

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      const float d = half(p);
      for (int i = 0; i < 32; ++i, out += 8) {
        const uint32_t index = p[2 + i] | (p[66 + i / 4] >> 2 * (i % 4) & 3u) << 8, scale = p[74 + i / 4] >> (i & 2) * 2 & 15u;
        signed_run(d * (0.5f + float(scale)) * 0.25f, kIq2S.values[index], p[34 + i], out);
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
