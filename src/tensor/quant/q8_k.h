// Q8_K: 256 values, a float scale, signed bytes, sums of sixteen (unused here); a type of activations.
#pragma once

#include "tensor/quant/codes.h"

namespace sonde::quant::SONDE_ISA {

struct Q8_K {
  static constexpr const char* kName = "Q8_K";
  static constexpr int kId = 15, kBlock = 256, kBytes = 292;

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes, out += kBlock) {
      const float d = load<float>(p);
      for (int k = 0; k < 256; k += 16) emit(load_codes(p + 4 + k), d, out + k);
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
