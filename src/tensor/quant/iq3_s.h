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
      for (int i = 0; i < 16; ++i, out += 16) {
        const float db = d * float(1 + 2 * (p[106 + i / 4] >> 4 * (i / 2 % 2) & 15));
        const uint8_t* q = p + 2 + 4 * i;
        const uint32_t high = p[66 + i / 2] >> 4 * (i % 2);
        auto four = [&](int k) { return kIq3S.values[q[k] | (high >> k & 1u) << 8]; };
        signed_run(db, eight(four(0), four(1)), eight(four(2), four(3)), load<uint16_t>(p + 74 + 2 * i), out);
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
