// IQ4_XS: 256 values in eight runs of 32 like IQ4_NL, each with a 6-bit scale less 32 under one half scale.
#pragma once

#include "tensor/quant/strip.h"

namespace sonde::quant::SONDE_ISA {

struct IQ4_XS {
  static constexpr const char* kName = "IQ4_XS";
  static constexpr int kId = 23, kBlock = 256, kBytes = 136;

  struct Strip : StripOf {
    static constexpr int kBits = 4, kZero = 128, kSub = 32;
    static constexpr bool kHasTable = true;
    static constexpr const int8_t* kTable = kUneven;
  };
  static void split(const std::byte* block, Split& s) {
    const uint8_t* p = as_bytes(block);
    s.d = load<uint16_t>(p);
    const uint32_t high = load<uint16_t>(p + 2);
    for (int i = 0; i < 8; ++i) {
      const uint32_t scale = (p[4 + i / 2] >> 4 * (i % 2) & 15u) | (high >> 2 * i & 3u) << 4;
      s.scale[i] = uint8_t(scale - 32);
      for (int j = 0; j < 16; ++j) {
        const uint8_t both = p[8 + 16 * i + j];
        s.codes[32 * i + j] = both & 15, s.codes[32 * i + 16 + j] = uint8_t(both >> 4);
      }
    }
  }

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      const float d = half(p);
      const uint32_t high = load<uint16_t>(p + 2);
      for (int i = 0; i < 8; ++i, out += 32) {
        const uint32_t scale = (p[4 + i / 2] >> 4 * (i % 2) & 15u) | (high >> 2 * i & 3u) << 4;
        const float dl = d * float(int32_t(scale) - 32);
        const UCodes q = load_codes(p + 8 + 16 * i);
        emit(lookup(kUneven, low_nibbles(q)), dl, out);
        emit(lookup(kUneven, high_nibbles(q)), dl, out + 16);
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
