// Q6_K: 256 values in sixteen runs of 16; x = (d * scale) * (code - 32), scales signed bytes, codes of 6 bits.
#pragma once

#include "tensor/quant/codes.h"

namespace sonde::quant::SONDE_ISA {

struct Q6_K {
  static constexpr const char* kName = "Q6_K";
  static constexpr int kId = 14, kBlock = 256, kBytes = 210;

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      const float d = half(p + 208);
      for (int h = 0; h < 2; ++h, out += 128) {
        for (int r = 0; r < 2; ++r) {  // elements 16 r ... of each quarter of 32
          const UCodes low0 = load_codes(p + 64 * h + 16 * r), low1 = load_codes(p + 64 * h + 32 + 16 * r);
          const UCodes high = load_codes(p + 128 + 32 * h + 16 * r);
          const uint8_t* scale = p + 192 + 8 * h + r;
          auto run = [&](int quarter, UCodes q) {
            emit(q - 32, d * float(int8_t(scale[2 * quarter])), out + 32 * quarter + 16 * r);
          };
          run(0, low_nibbles(low0) | (high << 4 & 0x30));
          run(1, low_nibbles(low1) | (high << 2 & 0x30));
          run(2, high_nibbles(low0) | (high & 0x30));
          run(3, high_nibbles(low1) | (high >> 2 & 0x30));
        }
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
