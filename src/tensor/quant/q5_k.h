// Q5_K: Q4_K with a fifth bit: bit i of byte k in the mask belongs to element k of run i.
#pragma once

#include "tensor/quant/k_search.h"

namespace sonde::quant::SONDE_ISA {

struct Q5_K {
  static constexpr const char* kName = "Q5_K";
  static constexpr int kId = 13, kBlock = 256, kBytes = 176;

  struct Strip : StripOf {
    static constexpr int kBits = 5, kSub = 32;
    static constexpr bool kMin = true;
  };
  static void split(const std::byte* block, Split& s) {
    const uint8_t* p = as_bytes(block);
    k_split(p, s);
    for (int c = 0; c < 4; ++c) {
      for (int k = 0; k < 32; ++k) {
        const uint32_t both = p[48 + 32 * c + k], fifth = uint32_t(p[16 + k]) >> 2 * c;
        s.codes[64 * c + k] = uint8_t((both & 15) | (fifth & 1) << 4);
        s.codes[64 * c + 32 + k] = uint8_t(both >> 4 | (fifth & 2) << 3);
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
    const int run = c / 2;
    const UCodes q = load_codes(as_bytes(block) + 48 + 32 * (c / 4) + 16 * (c % 2));
    const UCodes fifth = (load_codes(as_bytes(block) + 16 + 16 * (c % 2)) >> run & 1) << 4;
    emit((run % 2 == 0 ? low_nibbles(q) : high_nibbles(q)) | fifth, s.step[run], s.shift[8 + run], out);
  }

  static void pack(const float* __restrict x, int64_t n, std::byte* blocks) {
    uint8_t* p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes, x += kBlock) {
      uint8_t codes[256];
      KScales s;
      affine_block<8>(x, 31, 63, p, s.scale, s.min, codes);
      k_scales_store(s, p + 4);
      __builtin_memset(p + 16, 0, 32);
      for (int c = 0; c < 4; ++c) {
        for (int k = 0; k < 32; ++k) {
          const uint32_t first = codes[64 * c + k], second = codes[64 * c + 32 + k];
          p[16 + k] = uint8_t(p[16 + k] | (first >> 4) << 2 * c | (second >> 4) << (2 * c + 1));
          p[48 + 32 * c + k] = uint8_t((first & 15) | (second & 15) << 4);
        }
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
