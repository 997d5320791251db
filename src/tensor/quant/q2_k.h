// Q2_K: 256 values in sixteen runs of 16; x = (d * scale) * code - (dmin * min), scale and min of 4 bits, codes of 2.
#pragma once

#include "tensor/quant/k_search.h"

namespace sonde::quant::SONDE_ISA {

struct Q2_K {
  static constexpr const char* kName = "Q2_K";
  static constexpr int kId = 10, kBlock = 256, kBytes = 84;

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      const float d = half(p + 80), dmin = half(p + 82);
      for (int i = 0; i < 16;
           ++i, out += 16) {  // run i: half i / 8 of the block, bits 2 (i / 2 % 4), bytes 16 (i % 2) ...
        const UCodes q = load_codes(p + 16 + 32 * (i / 8) + 16 * (i % 2));
        emit(q >> 2 * (i / 2 % 4) & 3, d * float(p[i] & 15), -(dmin * float(p[i] >> 4)), out);
      }
    }
  }

  static void pack(const float* __restrict x, int64_t n, std::byte* blocks) {
    uint8_t* p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes, x += kBlock) {
      uint8_t scales[16], mins[16], codes[256];
      affine_block<16>(x, 3, 15, p + 80, scales, mins, codes);
      for (int r = 0; r < 16; ++r) p[r] = uint8_t(scales[r] | mins[r] << 4);
      store_pairs(codes, p + 16);
    }
  }

  // 256 codes of 2 bits: byte k of each half holds values k, k + 32, k + 64 and k + 96 of its 128.
  static void store_pairs(const uint8_t* __restrict codes, uint8_t* __restrict p) {
    for (int h = 0; h < 2; ++h) {
      const uint8_t* q = codes + 128 * h;
      for (int k = 0; k < 32; ++k)
        p[32 * h + k] = uint8_t((q[k] & 3) | (q[32 + k] & 3) << 2 | (q[64 + k] & 3) << 4 | (q[96 + k] & 3) << 6);
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
