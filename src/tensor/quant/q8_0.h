// Q8_0: 32 values, a half scale and 32 signed bytes.
#pragma once

#include "tensor/quant/strip.h"

namespace sonde::quant::SONDE_ISA {

struct Q8_0 {
  static constexpr const char* kName = "Q8_0";
  static constexpr int kId = 8, kBlock = 32, kBytes = 34;

  struct Strip : StripOf {
    static constexpr int kBits = 8, kZero = 128;
  };
  static void split(const std::byte* block, Split& s) {
    const uint8_t* p = as_bytes(block);
    s.d = load<uint16_t>(p);
    for (int k = 0; k < 32; ++k) s.codes[k] = p[2 + k] ^ 0x80;
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
    emit(load_codes(as_bytes(block) + 2 + 16 * c), s.d, out);
  }

  // The largest magnitude becomes 127; codes round to nearest, halves away from zero.
  static void pack(const float* __restrict x, int64_t n, std::byte* blocks) {
    uint8_t* p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes, x += kBlock) {
      float largest = 0;
      for (int k = 0; k < 32; ++k) largest = largest < __builtin_fabsf(x[k]) ? __builtin_fabsf(x[k]) : largest;
      const float d = largest / 127.0f, inverse = d != 0 ? 1.0f / d : 0.0f;
      store(p, float_to_half(d));
      for (int k = 0; k < 32; ++k) p[2 + k] = uint8_t(int8_t(clamped(__builtin_roundf(x[k] * inverse), -127, 127)));
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
