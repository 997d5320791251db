// Q3_K: 256 values in sixteen runs of 16; x = (d * (scale - 32)) * code, scales of 6 bits, codes of 3 less 4: two bits
// in the order of Q2_K, the third (inverted sense: clear takes 4 away) in the mask.
#pragma once

#include "tensor/quant/q2_k.h"

namespace sonde::quant::SONDE_ISA {

struct Q3_K {
  static constexpr const char* kName = "Q3_K";
  static constexpr int kId = 11, kBlock = 256, kBytes = 110;

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      const float d = half(p + 108);
      const uint8_t* s = p + 96;
      const UCodes masks[2] = {load_codes(p), load_codes(p + 16)};
      for (int i = 0; i < 16; ++i, out += 16) {  // runs as in Q2_K
        const int low = i < 8 ? s[i] & 15 : s[i - 8] >> 4, high = s[8 + i % 4] >> 2 * (i / 4) & 3;
        const UCodes q = load_codes(p + 32 + 32 * (i / 8) + 16 * (i % 2)) >> 2 * (i / 2 % 4) & 3;
        emit((q | (masks[i % 2] >> i / 2 & 1) << 2) - 4, d * float((low | high << 4) - 32), out);
      }
    }
  }

  static void pack(const float* __restrict x, int64_t n, std::byte* blocks) {
    uint8_t* p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes, x += kBlock) {
      uint8_t scales[16], codes[256];
      symmetric_block(x, 4, 32, p + 108, scales, codes);
      Q2_K::store_pairs(codes, p + 32);
      __builtin_memset(p, 0, 32);
      for (int k = 0; k < 256; ++k) p[k % 32] = uint8_t(p[k % 32] | (codes[k] >> 2) << k / 32);
      __builtin_memset(p + 96, 0, 12);
      for (int r = 0; r < 16; ++r) {  // four low bits in bytes 0 ... 7, two high ones in bytes 8 ... 11
        uint8_t &low = p[96 + r % 8], &high = p[104 + r % 4];
        low = uint8_t(low | (scales[r] & 15) << 4 * (r / 8));
        high = uint8_t(high | (scales[r] >> 4) << 2 * (r / 4));
      }
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
