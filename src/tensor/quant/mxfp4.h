// MXFP4 (OCP microscaling): 32 values of e2m1 under a power of two; ggml reads minus zero as zero.
#pragma once

#include "tensor/quant/strip.h"

namespace sonde::quant::SONDE_ISA {

struct MXFP4 {
  static constexpr const char* kName = "MXFP4";
  static constexpr int kId = 39, kBlock = 32, kBytes = 17;

  struct Strip : StripOf {
    static constexpr int kBits = 4, kZero = 128;
    static constexpr bool kE8m0 = true;
    static constexpr bool kHasTable = true;
    static constexpr const int8_t* kTable = kTwiceE2m1;
  };
  static void split(const std::byte* block, Split& s) {
    const uint8_t* p = as_bytes(block);
    s.d = *p;
    for (int j = 0; j < 16; ++j) s.codes[j] = p[1 + j] & 15, s.codes[16 + j] = uint8_t(p[1 + j] >> 4);
  }

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes, out += kBlock) {
      const float d = half_e8m0(*p);
      const UCodes q = load_codes(p + 1);
      emit(lookup(kTwiceE2m1, low_nibbles(q)), d, out);
      emit(lookup(kTwiceE2m1, high_nibbles(q)), d, out + 16);
    }
  }

  // The scale puts the largest magnitude at 4 ... 8 of e2m1's 6; each code is the nearest, the earlier one on a tie.
  static void pack(const float* __restrict x, int64_t n, std::byte* blocks) {
    uint8_t* p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes, x += kBlock) {
      float largest = 0;
      for (int k = 0; k < 32; ++k) largest = largest < __builtin_fabsf(x[k]) ? __builtin_fabsf(x[k]) : largest;
      p[0] = largest > 0 ? uint8_t(clamped(__builtin_floorf(__builtin_log2f(largest)) + 125.0f, 0, 254)) : uint8_t(0);
      const float d = half_e8m0(p[0]);
      auto code = [&](float v) {
        int best = 0;
        for (int c = 1; c < 16; ++c) {
          if (__builtin_fabsf(float(kTwiceE2m1[c]) * d - v) < __builtin_fabsf(float(kTwiceE2m1[best]) * d - v))
            best = c;
        }
        return best;
      };
      for (int j = 0; j < 16; ++j) p[1 + j] = uint8_t(code(x[j]) | code(x[j + 16]) << 4);
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
