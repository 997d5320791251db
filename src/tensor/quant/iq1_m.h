// IQ1_M: like IQ1_S with a 3-bit scale for each 16 and a shift's sign for each 8; the half scale is spread over the top
// nibbles of the four words of scales.
#pragma once

#include "tensor/quant/iq.h"

namespace sonde::quant::SONDE_ISA {

struct IQ1_M {
  static constexpr const char* kName = "IQ1_M";
  static constexpr int kId = 29, kBlock = 256, kBytes = 56;

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      uint32_t scales[4];
      for (int i = 0; i < 4; ++i) scales[i] = load<uint16_t>(p + 48 + 2 * i);
      const float d = half_to_float(uint16_t(scales[0] >> 12 | (scales[1] >> 12) << 4 | (scales[2] >> 12) << 8 | (scales[3] >> 12) << 12));
      for (int i = 0; i < 32; ++i, out += 8) {
        const uint32_t high = p[32 + i / 2] >> 4 * (i % 2), scale = scales[i / 8] >> 3 * (i / 2 % 4) & 7u;
        shifted_run(d * float(2 * scale + 1), kIq1S.values[p[i] | (high & 7u) << 8], high & 8u ? -0.125f : 0.125f, out);
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
