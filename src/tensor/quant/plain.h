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
#ifdef __F16C__
    for (; n >= 8; n -= 8, in += 16, out += 8) {
      _mm256_storeu_ps(out, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in))));
    }
#endif
    for (int64_t i = 0; i < n; ++i) out[i] = half(in + 2 * i);
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
#if defined(__AVX2__) && defined(__F16C__)
  // Sixteen as halves: in a half's places the exponent stands for 2^8 less, denormals included. NaN becomes 480.
  static constexpr float kOfHalves = 256;
  static __m256i halves(__m128i codes) {
    return _mm256_and_si256(_mm256_slli_epi16(_mm256_cvtepi8_epi16(codes), 7), _mm256_set1_epi16(short(0xBF80)));
  }
#endif
  static bool is_finite(const std::byte* p, int64_t n) {
    const uint8_t* in = as_bytes(p);
    bool nan = false;
#if defined(__AVX2__)
    const __m256i all_but_sign = _mm256_set1_epi8(0x7F);
    __m256i found = _mm256_setzero_si256();
    for (; n >= 32; n -= 32, in += 32) {
      const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in));
      found = _mm256_or_si256(found, _mm256_cmpeq_epi8(_mm256_and_si256(codes, all_but_sign), all_but_sign));
    }
    nan = !_mm256_testz_si256(found, found);
#endif
    for (int64_t i = 0; i < n; ++i) nan |= (in[i] & 0x7F) == 0x7F;
    return !nan;
  }
  static void unpack(const std::byte* p, int64_t n, float* __restrict out) {
    const uint8_t* __restrict in = as_bytes(p);
#if defined(__AVX2__) && defined(__F16C__)
    const __m256 scale = _mm256_set1_ps(kOfHalves);
    const __m256i all = _mm256_set1_epi16(0x3F80), nan = _mm256_set1_epi16(0x7E00), sign = _mm256_set1_epi16(short(0x8000));
    for (; n >= 16; n -= 16, in += 16, out += 16) {
      const __m256i finite = halves(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in)));
      const __m256i is_nan = _mm256_cmpeq_epi16(_mm256_and_si256(finite, all), all);
      const __m256i sixteen = _mm256_blendv_epi8(finite, _mm256_or_si256(_mm256_and_si256(finite, sign), nan), is_nan);
      _mm256_storeu_ps(out, _mm256_mul_ps(scale, _mm256_cvtph_ps(_mm256_castsi256_si128(sixteen))));
      _mm256_storeu_ps(out + 8, _mm256_mul_ps(scale, _mm256_cvtph_ps(_mm256_extracti128_si256(sixteen, 1))));
    }
#endif
    for (int64_t i = 0; i < n; ++i) {
      // Exponent and fraction moved into a float's places count as denormal below 8: an integer conversion gives those.
      const int32_t magnitude = in[i] & 0x7F;
      const uint32_t tiny = bits_of(float(magnitude) * 0x1p-9f), normal = uint32_t(magnitude << 20) + (120u << 23);
      const uint32_t is_tiny = uint32_t((magnitude - 8) >> 31), is_nan = uint32_t((0x7E - magnitude) >> 31);
      out[i] = float_of((tiny & is_tiny) | (normal & ~is_tiny) | (0x7FC00000u & is_nan) | uint32_t(in[i] & 0x80) << 24);
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
