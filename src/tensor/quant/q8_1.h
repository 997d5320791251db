// Q8_1: Q8_0 with the sum of its values (unused here) between scale and codes; a type of activations.
#pragma once

#include "tensor/quant/codes.h"

namespace sonde::quant::SONDE_ISA {

struct Q8_1 {
  static constexpr const char* kName = "Q8_1";
  static constexpr int kId = 9, kBlock = 32, kBytes = 36;

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes, out += kBlock) {
      const float d = half(p);
      emit(load_codes(p + 4), d, out);
      emit(load_codes(p + 20), d, out + 16);
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
