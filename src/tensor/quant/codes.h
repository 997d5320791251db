// Sixteen codes at a time: how every block format turns small integers into scaled floats.
#pragma once

#include "tensor/quant/bits.h"
#ifdef __SSSE3__
#include <immintrin.h>
#endif

namespace sonde::quant::SONDE_ISA {

// Vectors of GCC and Clang, which bring +, -, &, |, ^, >>, << and comparisons (0 or -1) on every instruction set.
using Codes = int8_t __attribute__((vector_size(16)));
using UCodes = uint8_t __attribute__((vector_size(16)));
using Words = uint64_t __attribute__((vector_size(16)));

// Keeps an array in memory, from where a broadcast costs nothing; out of a register it takes a shuffle.
#define SONDE_IN_MEMORY(array) __asm__("" : "+m"(array))

inline UCodes load_codes(const uint8_t* p) { return load<UCodes>(p); }
inline UCodes low_nibbles(UCodes q) { return q & 15; }
inline UCodes high_nibbles(UCodes q) { return q >> 4; }
// Codes from two words of eight.
inline UCodes join(uint64_t first, uint64_t second) { return __builtin_bit_cast(UCodes, Words{first, second}); }
// Eight bytes as nibbles: the low ones, then the high ones.
inline UCodes nibbles_of_eight(const uint8_t* p) {
  const uint64_t q = load<uint64_t>(p);
  return join(q & 0x0F0F0F0F0F0F0F0Fu, q >> 4 & 0x0F0F0F0F0F0F0F0Fu);
}
// 0xFF where bit k of the sixteen is set.
inline UCodes spread(uint32_t bits) {
  const uint64_t each = 0x0101010101010101u, one_of_eight = 0x8040201008040201u;
  const UCodes mask = join(one_of_eight, one_of_eight);
  return UCodes((join((bits & 255u) * each, (bits >> 8 & 255u) * each) & mask) == mask);
}
// Negates the codes whose mask is 0xFF.
inline Codes negate(UCodes codes, UCodes mask) { return Codes((codes ^ mask) - mask); }

// Values by 4-bit index; the table is aligned to 16 bytes.
inline Codes lookup(const int8_t* table, UCodes index) {
#ifdef __SSSE3__
  return __builtin_bit_cast(Codes, _mm_shuffle_epi8(_mm_load_si128(reinterpret_cast<const __m128i*>(table)),
                                                    __builtin_bit_cast(__m128i, index)));
#elif defined(SONDE_NEON)
  return __builtin_bit_cast(Codes, vqtbl1q_s8(vld1q_s8(table), __builtin_bit_cast(uint8x16_t, index)));
#else
  Codes out;
  for (int k = 0; k < 16; ++k) out[k] = table[index[k]];
  return out;
#endif
}
alignas(16) inline constexpr int8_t kUneven[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                   1,    13,   25,  38,  53,  69,  89,  113};
alignas(16) inline constexpr int8_t kTwiceE2m1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

#if defined(__AVX512F__)
inline __m512 floats(Codes codes) {  // masked forms: g++ 12 warns of its own header in the plain ones
  const __m512i wide = _mm512_maskz_cvtepi8_epi32(0xFFFF, __builtin_bit_cast(__m128i, codes));
  return _mm512_maskz_cvtepi32_ps(0xFFFF, wide);
}
#endif

// out[k] = d * codes[k].
inline void emit(Codes codes, float d, float* __restrict out) {
#if defined(__AVX512F__)
  _mm512_storeu_ps(out, _mm512_mul_ps(floats(codes), _mm512_set1_ps(d)));
#elif defined(__AVX2__)
  const __m128i all = __builtin_bit_cast(__m128i, codes);
  const __m256 scale = _mm256_set1_ps(d);
  _mm256_storeu_ps(out, _mm256_mul_ps(scale, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(all))));
  _mm256_storeu_ps(out + 8, _mm256_mul_ps(scale, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(all, 8)))));
#else
  int8_t c[16];
  __builtin_memcpy(c, &codes, sizeof c);
  for (int k = 0; k < 16; ++k) out[k] = d * float(c[k]);
#endif
}
inline void emit(UCodes codes, float d, float* __restrict out) { emit(Codes(codes), d, out); }

// out[k] = d * codes[k] + m, product and sum each rounded; codes below 128.
inline void emit(UCodes codes, float d, float m, float* __restrict out) {
#if defined(__AVX512F__)
  _mm512_storeu_ps(out, _mm512_add_ps(_mm512_mul_ps(floats(Codes(codes)), _mm512_set1_ps(d)), _mm512_set1_ps(m)));
#elif defined(__AVX2__)
  const __m128i all = __builtin_bit_cast(__m128i, codes);
  const __m256 scale = _mm256_set1_ps(d), shift = _mm256_set1_ps(m);
  const __m256 first = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(all));
  const __m256 second = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(all, 8)));
  _mm256_storeu_ps(out, _mm256_add_ps(_mm256_mul_ps(scale, first), shift));
  _mm256_storeu_ps(out + 8, _mm256_add_ps(_mm256_mul_ps(scale, second), shift));
#else
  uint8_t c[16];
  __builtin_memcpy(c, &codes, sizeof c);
  for (int k = 0; k < 16; ++k) out[k] = d * float(c[k]) + m;
#endif
}

// The sixteen values d * k + m of 4-bit codes k: on AVX-512 a table in a register, elsewhere computed for each code.
struct Affine {
#if defined(__AVX512F__)
  __m512 values;
#else
  float d, m;
#endif
};
inline Affine affine(float d, float m) {
#if defined(__AVX512F__)
  const __m512 k = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return {_mm512_add_ps(_mm512_mul_ps(k, _mm512_set1_ps(d)), _mm512_set1_ps(m))};
#else
  return {d, m};
#endif
}
#if defined(__AVX512F__)
inline __m512i wide_codes(UCodes q) { return _mm512_maskz_cvtepu8_epi32(0xFFFF, __builtin_bit_cast(__m128i, q)); }
inline __m512 low_values(UCodes q, const Affine& a) {
  return _mm512_maskz_permutexvar_ps(0xFFFF, wide_codes(q), a.values);
}
inline __m512 high_values(UCodes q, const Affine& a) {
  return _mm512_maskz_permutexvar_ps(0xFFFF, _mm512_maskz_srli_epi32(0xFFFF, wide_codes(q), 4), a.values);
}
#endif
// out[k] = the value of the low, the high nibble of q[k].
inline void emit_low(UCodes q, const Affine& a, float* __restrict out) {
#if defined(__AVX512F__)
  _mm512_storeu_ps(out, low_values(q, a));
#else
  emit(low_nibbles(q), a.d, a.m, out);
#endif
}
inline void emit_high(UCodes q, const Affine& a, float* __restrict out) {
#if defined(__AVX512F__)
  _mm512_storeu_ps(out, high_values(q, a));
#else
  emit(high_nibbles(q), a.d, a.m, out);
#endif
}

}  // namespace sonde::quant::SONDE_ISA
