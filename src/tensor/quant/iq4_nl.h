// IQ4_NL: 32 values, a half scale and 4-bit indices into sixteen unevenly spaced values.
#pragma once

#include "tensor/quant/strip.h"

namespace sonde::quant::SONDE_ISA {

struct IQ4_NL {
  static constexpr const char* kName = "IQ4_NL";
  static constexpr int kId = 20, kBlock = 32, kBytes = 18;

  struct Strip : StripOf {
    static constexpr int kBits = 4, kZero = 128;
    static constexpr bool kHasTable = true;
    static constexpr const int8_t* kTable = kUneven;
  };
  static void split(const std::byte* block, Split& s) {
    const uint8_t* p = as_bytes(block);
    s.d = load<uint16_t>(p);
    for (int j = 0; j < 16; ++j) s.codes[j] = p[2 + j] & 15, s.codes[16 + j] = uint8_t(p[2 + j] >> 4);
  }

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes, out += kBlock) {
      const float d = half(p);
      const UCodes q = load_codes(p + 2);
      emit(lookup(kUneven, low_nibbles(q)), d, out);
      emit(lookup(kUneven, high_nibbles(q)), d, out + 16);
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
