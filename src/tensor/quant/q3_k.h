// Q3_K: 256 values in sixteen runs of 16; x = (d * (scale - 32)) * code, scales of 6 bits, codes of 3 less 4: two bits in
// the order of Q2_K, the third (inverted sense: clear takes 4 away) in the mask.
#pragma once

#include "tensor/quant/bits.h"

namespace sonde::quant::SONDE_ISA {

struct Q3_K {
  static constexpr const char* kName = "Q3_K";
  static constexpr int kId = 11, kBlock = 256, kBytes = 110;

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      const float d = half(p + 108);
      const uint8_t* s = p + 96;
      for (int i = 0; i < 16; ++i, out += 16) {  // run i: half h of the block, two bits at 2 j, bytes 16 r ...
        const int h = i / 8, j = i / 2 % 4, r = i % 2;
        const int low = i < 8 ? s[i] & 15 : s[i - 8] >> 4, high = s[8 + i % 4] >> 2 * (i / 4) & 3;
        const float dl = d * float((low | high << 4) - 32);
        const uint8_t* __restrict mask = p + 16 * r;
        const uint8_t* __restrict q = p + 32 + 32 * h + 16 * r;
        for (int k = 0; k < 16; ++k) out[k] = dl * float((q[k] >> 2 * j & 3) + (mask[k] >> (4 * h + j) & 1) * 4 - 4);
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
