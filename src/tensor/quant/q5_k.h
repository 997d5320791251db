// Q5_K: Q4_K with a fifth bit: bit i of byte k in the mask belongs to element k of run i.
#pragma once

#include "tensor/quant/k_search.h"

namespace sonde::quant::SONDE_ISA {

struct Q5_K {
  static constexpr const char* kName = "Q5_K";
  static constexpr int kId = 13, kBlock = 256, kBytes = 176;

  static void unpack(const std::byte* blocks, int64_t n, float* out) { each(blocks, n, out); }
  template <class Out>  // float*, or what a kernel puts in its place; sixteens in ascending order
  [[gnu::always_inline]] static inline void each(const std::byte* blocks, int64_t n, Out out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      const KSteps s = k_steps(p + 4, half(p), half(p + 2));
      const UCodes h0 = load_codes(p + 16), h1 = load_codes(p + 32);
#pragma GCC unroll 4
      for (int c = 0; c < 8; c += 2, out += 64) {
        const UCodes q0 = load_codes(p + 48 + 16 * c), q1 = load_codes(p + 64 + 16 * c);
        const float d0 = s.step[c], m0 = s.shift[8 + c], d1 = s.step[c + 1], m1 = s.shift[9 + c];
        emit(low_nibbles(q0) | (h0 >> c & 1) << 4, d0, m0, out);
        emit(low_nibbles(q1) | (h1 >> c & 1) << 4, d0, m0, out + 16);
        emit(high_nibbles(q0) | (h0 >> (c + 1) & 1) << 4, d1, m1, out + 32);
        emit(high_nibbles(q1) | (h1 >> (c + 1) & 1) << 4, d1, m1, out + 48);
      }
    }
  }

  static void pack(const float* __restrict x, int64_t n, std::byte* blocks) {
    uint8_t* p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes, x += kBlock) {
      uint8_t codes[256];
      const KScales s = affine_block(x, 31, p, codes);
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
