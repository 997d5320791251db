// TQ2_0: 256 values -d, 0, d as 2-bit codes; byte m of 32 holds elements m, m + 32, m + 64, m + 96.
#pragma once

#include "tensor/quant/ternary.h"

namespace sonde::quant::SONDE_ISA {

struct TQ2_0 {
  static constexpr const char* kName = "TQ2_0";
  static constexpr int kId = 35, kBlock = 256, kBytes = 66;

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      const float d = half(p + 64);
      for (int i = 0; i < 16; ++i, out += 16) {  // bytes and bits as in Q2_K
        emit((load_codes(p + 32 * (i / 8) + 16 * (i % 2)) >> 2 * (i / 2 % 4) & 3) - 1, d, out);
      }
    }
  }

  static void pack(const float* __restrict x, int64_t n, std::byte* blocks) {
    uint8_t* p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      const Ternary ternary(x, kBlock);
      for (int h = 0; h < 2; ++h, x += 128) {
        for (int m = 0; m < 32; ++m) {
          uint32_t q = 0;
          for (int l = 0; l < 4; ++l) q |= ternary.code(x[m + 32 * l]) << 2 * l;
          p[32 * h + m] = uint8_t(q);
        }
      }
      store(p + 64, float_to_half(ternary.d));
    }
  }
};

}  // namespace sonde::quant::SONDE_ISA
