// Q4_1: 32 values, half scale and half minimum; x = d * code + m, nibbles in the order of Q4_0.
#pragma once

#include "tensor/quant/strip.h"

namespace sonde::quant::SONDE_ISA {

struct Q4_1 {
  static constexpr const char* kName = "Q4_1";
  static constexpr int kId = 3, kBlock = 32, kBytes = 20;

  struct Strip : StripOf {
    static constexpr int kBits = 4;
    static constexpr bool kMin = true;
  };
  static void split(const std::byte* block, Split& s) {
    const uint8_t* p = as_bytes(block);
    s.d = load<uint16_t>(p), s.m = load<uint16_t>(p + 2);
    for (int j = 0; j < 16; ++j) s.codes[j] = p[4 + j] & 15, s.codes[16 + j] = uint8_t(p[4 + j] >> 4);
  }

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes, out += kBlock) {
      const float d = half(p), m = half(p + 2);
      const UCodes q = load_codes(p + 4);
      emit(low_nibbles(q), d, m, out);
      emit(high_nibbles(q), d, m, out + 16);
    }
  }

  // The smallest value becomes 0, the largest 15.
  static void pack(const float* __restrict x, int64_t n, std::byte* blocks) {
    uint8_t* p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes, x += kBlock) {
      float low = x[0], high = x[0];
      for (int k = 1; k < 32; ++k) low = x[k] < low ? x[k] : low, high = x[k] > high ? x[k] : high;
      const float d = (high - low) / 15.0f, inverse = d != 0 ? 1.0f / d : 0.0f;
      store(p, float_to_half(d));
      store(p + 2, float_to_half(low));
      auto code = [&](float v) { return clamped((v - low) * inverse + 0.5f, 0, 15); };
      for (int j = 0; j < 16; ++j) p[4 + j] = uint8_t(code(x[j]) | code(x[j + 16]) << 4);
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
