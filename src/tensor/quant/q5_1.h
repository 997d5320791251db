// Q5_1: Q5_0 with a half minimum; x = d * code + m.
#pragma once

#include "tensor/quant/strip.h"

namespace sonde::quant::SONDE_ISA {

struct Q5_1 {
  static constexpr const char* kName = "Q5_1";
  static constexpr int kId = 7, kBlock = 32, kBytes = 24;

  struct Strip : StripOf {
    static constexpr int kBits = 5;
    static constexpr bool kMin = true;
  };
  static void split(const std::byte* block, Split& s) {
    const uint8_t* p = as_bytes(block);
    s.d = load<uint16_t>(p), s.m = load<uint16_t>(p + 2);
    const uint32_t high = load<uint32_t>(p + 4);
    for (int j = 0; j < 16; ++j) {
      s.codes[j] = uint8_t((p[8 + j] & 15) | (high >> j & 1) << 4);
      s.codes[16 + j] = uint8_t(p[8 + j] >> 4 | (high >> (16 + j) & 1) << 4);
    }
  }

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes, out += kBlock) {
      const float d = half(p), m = half(p + 2);
      const uint32_t high = load<uint32_t>(p + 4);
      const UCodes q = load_codes(p + 8);
      emit(low_nibbles(q) | (spread(high) & 16), d, m, out);
      emit(high_nibbles(q) | (spread(high >> 16) & 16), d, m, out + 16);
    }
  }

  // The smallest value becomes 0, the largest 31.
  static void pack(const float* __restrict x, int64_t n, std::byte* blocks) {
    uint8_t* p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes, x += kBlock) {
      float low = x[0], largest = x[0];
      for (int k = 1; k < 32; ++k) low = x[k] < low ? x[k] : low, largest = x[k] > largest ? x[k] : largest;
      const float d = (largest - low) / 31.0f, inverse = d != 0 ? 1.0f / d : 0.0f;
      uint32_t high = 0, code[32];
      for (int k = 0; k < 32; ++k) {
        code[k] = uint32_t(clamped((x[k] - low) * inverse + 0.5f, 0, 31));
        high |= code[k] >> 4 << k;
      }
      store(p, float_to_half(d));
      store(p + 2, float_to_half(low));
      store(p + 4, high);
      for (int j = 0; j < 16; ++j) p[8 + j] = uint8_t((code[j] & 15) | (code[j + 16] & 15) << 4);
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
