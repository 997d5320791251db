// Q4_K: 256 values in eight runs of 32; x = (d * scale) * code - (dmin * min), scales and mins of 6 bits, codes of 4.
#pragma once

#include "tensor/quant/k_search.h"

namespace sonde::quant::SONDE_ISA {

struct Q4_K {
  static constexpr const char* kName = "Q4_K";
  static constexpr int kId = 12, kBlock = 256, kBytes = 144;

  static void unpack(const std::byte* blocks, int64_t n, float* out) { each(blocks, n, out); }
  template <class Out>  // float*, or what a kernel puts in its place; sixteens in ascending order
  [[gnu::always_inline]] static inline void each(const std::byte* blocks, int64_t n, Out out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      const KSteps s = k_steps(p + 4, half(p), half(p + 2));
#pragma GCC unroll 4
      for (int c = 0; c < 8; c += 2, out += 64) {
        const UCodes q0 = load_codes(p + 16 + 16 * c), q1 = load_codes(p + 32 + 16 * c);
        const Affine first = affine(s.step[c], s.shift[8 + c]), second = affine(s.step[c + 1], s.shift[9 + c]);
        emit_low(q0, first, out);
        emit_low(q1, first, out + 16);
        emit_high(q0, second, out + 32);
        emit_high(q1, second, out + 48);
      }
    }
  }

  static void pack(const float* __restrict x, int64_t n, std::byte* blocks) {
    uint8_t* p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes, x += kBlock) {
      uint8_t codes[256];
      const KScales s = affine_block(x, 15, p, codes);
      k_scales_store(s, p + 4);
      for (int c = 0; c < 4; ++c) {
        for (int k = 0; k < 32; ++k) p[16 + 32 * c + k] = uint8_t(codes[64 * c + k] | codes[64 * c + 32 + k] << 4);
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
