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
      for (int i = 0; i < 16; ++i, out += 16) {
        const uint32_t high = p[66 + i / 2] >> 4 * (i % 2), scale = p[74 + i / 2] >> 4 * (i % 2) & 15u;
        const uint32_t first = p[2 + 2 * i] | (high & 3u) << 8, second = p[3 + 2 * i] | (high >> 2 & 3u) << 8;
        signed_run(d * (0.5f + float(scale)) * 0.25f, eight(kIq2S.values[first]), eight(kIq2S.values[second]),
                   load<uint16_t>(p + 34 + 2 * i), out);
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
