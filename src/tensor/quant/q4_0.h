// Q4_0: 32 values, a half scale and 4-bit codes less 8; byte j holds elements j (low) and j + 16 (high).
#pragma once

#include "tensor/quant/strip.h"

namespace sonde::quant::SONDE_ISA {

struct Q4_0 {
  static constexpr const char* kName = "Q4_0";
  static constexpr int kId = 2, kBlock = 32, kBytes = 18;

  struct Strip : StripOf {
    static constexpr int kBits = 4, kZero = 8;
  };
  static void split(const std::byte* block, Split& s) {
    const uint8_t* p = as_bytes(block);
    s.d = load<uint16_t>(p);
    for (int j = 0; j < 16; ++j) s.codes[j] = p[2 + j] & 15, s.codes[16 + j] = uint8_t(p[2 + j] >> 4);
  }

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    for (int64_t b = 0; b < n; ++b, blocks += kBytes, out += kBlock) {
      Steps s;
      steps(blocks, s);
#pragma GCC unroll 16
      for (int c = 0; c < kBlock / 16; ++c) sixteen(blocks, s, c, out + 16 * c);
    }
  }

  struct Steps {
    float d;
  };
  [[gnu::always_inline]] static inline void steps(const std::byte* block, Steps& s) { s.d = half(as_bytes(block)); }
  // Values 16 c ... 16 c + 15 of a block; out: float*, or what a kernel puts in its place.
  template <class Out>
  [[gnu::always_inline]] static inline void sixteen(const std::byte* block, const Steps& s, int c, Out out) {
    const UCodes q = load_codes(as_bytes(block) + 2);
    emit((c == 0 ? low_nibbles(q) : high_nibbles(q)) - 8, s.d, out);
  }

  // The value of largest magnitude becomes -8 exactly.
  static void pack(const float* __restrict x, int64_t n, std::byte* blocks) {
    uint8_t* p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes, x += kBlock) {
      float largest = 0, extreme = 0;
      for (int k = 0; k < 32; ++k) {
        if (__builtin_fabsf(x[k]) > largest) largest = __builtin_fabsf(x[k]), extreme = x[k];
      }
      const float d = extreme / -8.0f, inverse = d != 0 ? 1.0f / d : 0.0f;
      store(p, float_to_half(d));
      auto code = [&](float v) { return clamped(v * inverse + 8.5f, 0, 15); };
      for (int j = 0; j < 16; ++j) p[2 + j] = uint8_t(code(x[j]) | code(x[j + 16]) << 4);
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
