// Q4_K: 256 values in eight runs of 32; x = (d * scale) * code - (dmin * min), scales and mins of 6 bits, codes of 4.
#pragma once

#include "tensor/quant/k_search.h"

namespace sonde::quant::SONDE_ISA {

struct Q4_K {
  static constexpr const char* kName = "Q4_K";
  static constexpr int kId = 12, kBlock = 256, kBytes = 144;

  struct Strip : StripOf {
    static constexpr int kBits = 4, kSub = 32;
    static constexpr bool kMin = true;
  };
  static void split(const std::byte* block, Split& s) {
    const uint8_t* p = as_bytes(block);
    k_split(p, s);
    for (int c = 0; c < 4; ++c) {
      for (int k = 0; k < 32; ++k) {
        const uint8_t both = p[16 + 32 * c + k];
        s.codes[64 * c + k] = both & 15, s.codes[64 * c + 32 + k] = uint8_t(both >> 4);
      }
    }
  }

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    for (int64_t b = 0; b < n; ++b, blocks += kBytes, out += kBlock) {
      Steps s;
      steps(blocks, s);
#pragma GCC unroll 16
      for (int c = 0; c < kBlock / 16; ++c) sixteen(blocks, s, c, out + 16 * c);
    }
  }

  using Steps = KSteps;
  [[gnu::always_inline]] static inline void steps(const std::byte* block, Steps& s) {
    const uint8_t* p = as_bytes(block);
    k_steps(p + 4, half(p), half(p + 2), s);
  }
  // Values 16 c ... 16 c + 15 of a block; out: float*, or what a kernel puts in its place.
  template <class Out>
  [[gnu::always_inline]] static inline void sixteen(const std::byte* block, const Steps& s, int c, Out out) {
    const UCodes q = load_codes(as_bytes(block) + 16 + 32 * (c / 4) + 16 * (c % 2));
    const Affine a = affine(s.step[c / 2], s.shift[8 + c / 2]);
    if (c / 2 % 2 == 0)
      emit_low(q, a, out);
    else
      emit_high(q, a, out);
  }

  static void pack(const float* __restrict x, int64_t n, std::byte* blocks) {
    uint8_t* p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes, x += kBlock) {
      uint8_t codes[256];
      KScales s;
      affine_block<8>(x, 15, 63, p, s.scale, s.min, codes);
      k_scales_store(s, p + 4);
      for (int c = 0; c < 4; ++c) {
        for (int k = 0; k < 32; ++k) p[16 + 32 * c + k] = uint8_t(codes[64 * c + k] | codes[64 * c + 32 + k] << 4);
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
