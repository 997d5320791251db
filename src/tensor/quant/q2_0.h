// Q2_0: 64 codes of 2 bits less 1 under a half scale.
#pragma once

#include "tensor/quant/bits.h"

namespace sonde::quant::SONDE_ISA {

struct Q2_0 {
  static constexpr const char* kName = "Q2_0";
  static constexpr int kId = 42, kBlock = 64, kBytes = 18;

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes, out += kBlock) {
      const float d = half(p);
      for (int i = 0; i < 16; ++i) {
        for (int k = 0; k < 4; ++k) out[4 * i + k] = d * float((p[2 + i] >> 2 * k & 3) - 1);
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
