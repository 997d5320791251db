// Q1_0: 128 signs under a half scale.
#pragma once

#include "tensor/quant/codes.h"

namespace sonde::quant::SONDE_ISA {

struct Q1_0 {
  static constexpr const char* kName = "Q1_0";
  static constexpr int kId = 41, kBlock = 128, kBytes = 18;

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes, out += kBlock) {
      const float d = half(p);
      for (int i = 0; i < 8; ++i) emit((spread(load<uint16_t>(p + 2 + 2 * i)) & 2) - 1, d, out + 16 * i);
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
