// Types of one value a block: IEEE and brain floats, FP8, and the integers that files carry beside weights.
#pragma once

#include "tensor/quant/bits.h"

namespace sonde::quant::SONDE_ISA {

struct F32 {
  static constexpr const char* kName = "F32";
  static constexpr const char* kSafetensors = "F32";
  static constexpr int kId = 0, kBlock = 1, kBytes = 4;
  static void unpack(const std::byte* p, int64_t n, float* out) { __builtin_memcpy(out, p, std::size_t(n) * 4); }
  static void pack(const float* x, int64_t n, std::byte* out) { __builtin_memcpy(out, x, std::size_t(n) * 4); }
};

struct F64 {
  static constexpr const char* kName = "F64";
  static constexpr const char* kSafetensors = "F64";
  static constexpr int kId = 28, kBlock = 1, kBytes = 8;
  static void unpack(const std::byte* p, int64_t n, float* __restrict out) {
    for (int64_t i = 0; i < n; ++i) out[i] = float(load<double>(as_bytes(p) + 8 * i));
  }
  static void pack(const float* __restrict x, int64_t n, std::byte* out) {
    for (int64_t i = 0; i < n; ++i) store(as_bytes(out) + 8 * i, double(x[i]));
  }
};

struct F16 {
  static constexpr const char* kName = "F16";
  static constexpr const char* kSafetensors = "F16";
  static constexpr int kId = 1, kBlock = 1, kBytes = 2;
  static void unpack(const std::byte* p, int64_t n, float* __restrict out) {
    const uint8_t* __restrict in = as_bytes(p);
    int64_t i = 0;
#if defined(__AVX512F__)
    for (; i + 16 <= n; i += 16) {
      _mm512_storeu_ps(out + i, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + 2 * i))));
    }
#elif defined(__F16C__)
    for (; i + 8 <= n; i += 8) {
      _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + 2 * i))));
    }
#endif
    for (; i < n; ++i) out[i] = half(in + 2 * i);
  }
  static void pack(const float* __restrict x, int64_t n, std::byte* out) {
    for (int64_t i = 0; i < n; ++i) store(as_bytes(out) + 2 * i, float_to_half(x[i]));
  }
};

struct BF16 {
  static constexpr const char* kName = "BF16";
  static constexpr const char* kSafetensors = "BF16";
  static constexpr int kId = 30, kBlock = 1, kBytes = 2;
  static void unpack(const std::byte* p, int64_t n, float* __restrict out) {
    const uint8_t* __restrict in = as_bytes(p);
    for (int64_t i = 0; i < n; ++i) out[i] = bfloat_to_float(load<uint16_t>(in + 2 * i));
  }
  static void pack(const float* __restrict x, int64_t n, std::byte* out) {
    for (int64_t i = 0; i < n; ++i) store(as_bytes(out) + 2 * i, float_to_bfloat(x[i]));
  }
};

// FP8 of the "fn" kind: bias 7, largest 448, no infinity, NaN = 0x7F and 0xFF.
struct F8_E4M3 {
  static constexpr const char* kName = "F8_E4M3";
  static constexpr const char* kSafetensors = "F8_E4M3";
  static constexpr int kId = -1, kBlock = 1, kBytes = 1;
  static void unpack(const std::byte* p, int64_t n, float* __restrict out) {
    const uint8_t* __restrict in = as_bytes(p);
    for (int64_t i = 0; i < n; ++i) {
      const uint32_t magnitude = in[i] & 0x7Fu, sign = uint32_t(in[i] & 0x80u) << 24;
      const uint32_t denormal = bits_of(float(int32_t(magnitude)) * 0x1p-9f);
      const uint32_t normal = (magnitude << 20) + (120u << 23);
      const uint32_t finite = magnitude < 8 ? denormal : normal;
      out[i] = float_of((magnitude == 0x7Fu ? 0x7FC00000u : finite) | sign);
    }
  }
};

struct F8_E8M0 {
  static constexpr const char* kName = "F8_E8M0";
  static constexpr const char* kSafetensors = "F8_E8M0";
  static constexpr int kId = -1, kBlock = 1, kBytes = 1;
  static void unpack(const std::byte* p, int64_t n, float* __restrict out) {
    for (int64_t i = 0; i < n; ++i) out[i] = e8m0_to_float(as_bytes(p)[i]);
  }
};

// Integers are never weights: they have no unpack.
struct I8 {
  static constexpr const char* kName = "I8";
  static constexpr const char* kSafetensors = "I8";
  static constexpr int kId = 24, kBlock = 1, kBytes = 1;
};
struct U8 {
  static constexpr const char* kName = "U8";
  static constexpr const char* kSafetensors = "U8";
  static constexpr int kId = -1, kBlock = 1, kBytes = 1;
};
struct Bool {
  static constexpr const char* kName = "BOOL";
  static constexpr const char* kSafetensors = "BOOL";
  static constexpr int kId = -1, kBlock = 1, kBytes = 1;
};
struct I16 {
  static constexpr const char* kName = "I16";
  static constexpr const char* kSafetensors = "I16";
  static constexpr int kId = 25, kBlock = 1, kBytes = 2;
};
struct I32 {
  static constexpr const char* kName = "I32";
  static constexpr const char* kSafetensors = "I32";
  static constexpr int kId = 26, kBlock = 1, kBytes = 4;
};
struct I64 {
  static constexpr const char* kName = "I64";
  static constexpr const char* kSafetensors = "I64";
  static constexpr int kId = 27, kBlock = 1, kBytes = 8;
};

}  // namespace sonde::quant::SONDE_ISA
