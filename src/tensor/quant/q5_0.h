// Q5_0: 32 values, a half scale and 5-bit codes less 16; bit k of the 32-bit word is the fifth bit of element k.
#pragma once

#include "tensor/quant/strip.h"

namespace sonde::quant::SONDE_ISA {

struct Q5_0 {
  static constexpr const char* kName = "Q5_0";
  static constexpr int kId = 6, kBlock = 32, kBytes = 22;

  struct Strip : StripOf {
    static constexpr int kBits = 5, kZero = 16;
  };
  static void split(const std::byte* block, Split& s) {
    const uint8_t* p = as_bytes(block);
    s.d = load<uint16_t>(p);
    const uint32_t high = load<uint32_t>(p + 2);
    for (int j = 0; j < 16; ++j) {
      s.codes[j] = uint8_t((p[6 + j] & 15) | (high >> j & 1) << 4);
      s.codes[16 + j] = uint8_t(p[6 + j] >> 4 | (high >> (16 + j) & 1) << 4);
    }
  }

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes, out += kBlock) {
      const float d = half(p);
      const uint32_t high = load<uint32_t>(p + 2);
      const UCodes q = load_codes(p + 6);
      emit((low_nibbles(q) | (spread(high) & 16)) - 16, d, out);
      emit((high_nibbles(q) | (spread(high >> 16) & 16)) - 16, d, out + 16);
    }
  }

  // The value of largest magnitude becomes -16 exactly.
  static void pack(const float* __restrict x, int64_t n, std::byte* blocks) {
    uint8_t* p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes, x += kBlock) {
      float largest = 0, extreme = 0;
      for (int k = 0; k < 32; ++k) {
        if (__builtin_fabsf(x[k]) > largest) largest = __builtin_fabsf(x[k]), extreme = x[k];
      }
      const float d = extreme / -16.0f, inverse = d != 0 ? 1.0f / d : 0.0f;
      uint32_t high = 0, code[32];
      for (int k = 0; k < 32; ++k) {
        code[k] = uint32_t(clamped(x[k] * inverse + 16.5f, 0, 31));
        high |= code[k] >> 4 << k;
      }
      store(p, float_to_half(d));
      store(p + 2, high);
      for (int j = 0; j < 16; ++j) p[6 + j] = uint8_t((code[j] & 15) | (code[j + 16] & 15) << 4);
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
