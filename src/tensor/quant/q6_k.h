// Q6_K: 256 values in sixteen runs of 16; x = (d * scale) * (code - 32), scales signed bytes, codes of 6 bits.
#pragma once

#include "tensor/quant/k_search.h"

namespace sonde::quant::SONDE_ISA {

struct Q6_K {
  static constexpr const char* kName = "Q6_K";
  static constexpr int kId = 14, kBlock = 256, kBytes = 210;

  struct Strip : StripOf {
    static constexpr int kBits = 6, kZero = 32, kSub = 16;
  };
  static void split(const std::byte* block, Split& s) {
    const uint8_t* p = as_bytes(block);
    s.d = load<uint16_t>(p + 208);
    __builtin_memcpy(s.scale, p + 192, 16);
    codes(p, s.codes);
  }
  // The 256 codes of a block, 0 ... 63.
  [[gnu::always_inline]] static inline void codes(const uint8_t* __restrict p, uint8_t* __restrict out) {
    for (int h = 0; h < 2; ++h) {
      const uint8_t* __restrict low = p + 64 * h;
      const uint8_t* __restrict high = p + 128 + 32 * h;
      uint8_t* __restrict c = out + 128 * h;
      for (int k = 0; k < 32; ++k) c[k] = uint8_t((low[k] & 15) | (high[k] << 4 & 0x30));
      for (int k = 0; k < 32; ++k) c[32 + k] = uint8_t((low[32 + k] & 15) | (high[k] << 2 & 0x30));
      for (int k = 0; k < 32; ++k) c[64 + k] = uint8_t(low[k] >> 4 | (high[k] & 0x30));
      for (int k = 0; k < 32; ++k) c[96 + k] = uint8_t(low[32 + k] >> 4 | (high[k] >> 2 & 0x30));
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

  struct Steps {
    float step[16];
    uint8_t codes[256];
  };
  [[gnu::always_inline]] static inline void steps(const std::byte* block, Steps& s) {
    const uint8_t* __restrict p = as_bytes(block);
    emit(load_codes(p + 192), half(p + 208), s.step);
    codes(p, s.codes);
    for (int k = 0; k < 256; ++k) s.codes[k] = uint8_t(s.codes[k] - 32);
    SONDE_IN_MEMORY(s);
  }
  // Values 16 c ... 16 c + 15 of a block; out: float*, or what a kernel puts in its place.
  template <class Out>
  [[gnu::always_inline]] static inline void sixteen(const std::byte*, const Steps& s, int c, Out out) {
    emit(load_codes(s.codes + 16 * c), s.step[c], out);
  }

  static void pack(const float* __restrict x, int64_t n, std::byte* blocks) {
    uint8_t* p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes, x += kBlock) {
      uint8_t scales[16], codes[256];
      symmetric_block(x, 32, 128, p + 208, scales, codes);
      for (int r = 0; r < 16; ++r) p[192 + r] = uint8_t(scales[r] - 128);
      for (int h = 0; h < 2; ++h) {
        for (int k = 0; k < 32; ++k) {
          const uint8_t* q = codes + 128 * h + k;
          p[64 * h + k] = uint8_t((q[0] & 15) | (q[64] & 15) << 4);
          p[64 * h + 32 + k] = uint8_t((q[32] & 15) | (q[96] & 15) << 4);
          p[128 + 32 * h + k] = uint8_t(q[0] >> 4 | q[32] >> 4 << 2 | q[64] >> 4 << 4 | q[96] >> 4 << 6);
        }
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
