// IQ1_S: 256 values in runs of 8 from a codebook of -1, 0, 1 (eleven bits of index, three apart), all shifted by +-1/8;
// a 3-bit scale and the shift's sign for each 32.
#pragma once

#include "tensor/quant/iq.h"

namespace sonde::quant::SONDE_ISA {

struct IQ1_S {
  static constexpr const char* kName = "IQ1_S";
  static constexpr int kId = 19, kBlock = 256, kBytes = 50;

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      const float d = half(p);
      for (int i = 0; i < 8; ++i, out += 32) {
        const uint32_t high = load<uint16_t>(p + 34 + 2 * i);
        const float dl = d * float(2 * (high >> 12 & 7) + 1);
        const bool below = high & 0x8000u;
        auto run = [&](int l) { return kIq1S.values[p[2 + 4 * i + l] | (high >> 3 * l & 7u) << 8]; };
        shifted_run(dl, run(0), below, run(1), below, out);
        shifted_run(dl, run(2), below, run(3), below, out + 16);
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
