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
      uint32_t scales[4], d16 = 0;
      for (int i = 0; i < 4; ++i) {
        scales[i] = load<uint16_t>(p + 48 + 2 * i);
        d16 |= scales[i] >> 12 << 4 * i;
      }
      const float d = half_to_float(uint16_t(d16));
      for (int i = 0; i < 16; ++i, out += 16) {
        const uint32_t high = p[32 + i], scale = scales[i / 4] >> 3 * (i % 4) & 7u;
        shifted_run(d * float(2 * scale + 1), kIq1S.values[p[2 * i] | (high & 7u) << 8], high & 8u,
                    kIq1S.values[p[2 * i + 1] | (high >> 4 & 7u) << 8], high & 0x80u, out);
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
