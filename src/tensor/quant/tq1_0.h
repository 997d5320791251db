// TQ1_0: 256 values -d, 0, d as base-3 digits, five to a byte: 32 bytes, then 16, then 4 of four digits. A byte is the
// number's fraction of 3^5 scaled to 256, so that digit n is the carry of byte * 3^n times 3.
#pragma once

#include "tensor/quant/ternary.h"

namespace sonde::quant::SONDE_ISA {

struct TQ1_0 {
  static constexpr const char* kName = "TQ1_0";
  static constexpr int kId = 34, kBlock = 256, kBytes = 54;

  static void unpack(const std::byte* blocks, int64_t n, float* __restrict out) {
    const uint8_t* __restrict p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      const float d = half(p + 52);
      out = digits(p, 32, 5, d, out);
      out = digits(p + 32, 16, 5, d, out);
      out = digits(p + 48, 4, 4, d, out);
    }
  }

  static void pack(const float* __restrict x, int64_t n, std::byte* blocks) {
    uint8_t* p = as_bytes(blocks);
    for (int64_t b = 0; b < n; ++b, p += kBytes) {
      const Ternary ternary(x, kBlock);
      x = number(ternary, x, 32, 5, p);
      x = number(ternary, x, 16, 5, p + 32);
      x = number(ternary, x, 4, 4, p + 48);
      store(p + 52, float_to_half(ternary.d));
    }
  }

 private:
  static float* digits(const uint8_t* p, int bytes, int count, float d, float* __restrict out) {
    uint32_t power = 1;
    for (int n = 0; n < count; ++n, power *= 3, out += bytes) {
      for (int m = 0; m < bytes; ++m) out[m] = d * float(int32_t((p[m] * power & 255u) * 3u >> 8) - 1);
    }
    return out;
  }
  static const float* number(const Ternary& ternary, const float* x, int bytes, int count, uint8_t* p) {
    for (int m = 0; m < bytes; ++m) {
      uint32_t q = 0;
      for (int n = 0; n < 5; ++n) q = q * 3 + (n < count ? ternary.code(x[m + n * bytes]) : 0u);
      p[m] = uint8_t((q * 256 + 242) / 243);  // rounded up, so that the carries come out right
    }
    return x + bytes * count;
  }
};

}  // namespace sonde::quant::SONDE_ISA
