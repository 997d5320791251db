// Sixteen lanes as one 512-bit register. SONDE_ISA is defined by the file that includes this.
// (gcc 12's own intrinsics read a value that they leave undefined on purpose: isa/*.cpp turn its warnings off.)
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace sonde::kernels::SONDE_ISA {
namespace {

struct Half { uint16_t bits; };
struct Bfloat { uint16_t bits; };
struct Byte { uint8_t bits; };  // FP8 of numbers; loaded in units of kOfBytes

struct Lanes { __m512 v; };

inline __mmask16 first(int64_t n) { return __mmask16((1u << n) - 1u); }

inline Lanes zero() { return {_mm512_setzero_ps()}; }
inline Lanes set(float a) { return {_mm512_set1_ps(a)}; }
inline Lanes bfloats(__m256i b) { return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16))}; }
inline Lanes load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline Lanes load(const Half* p) { return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))}; }
inline Lanes load(const Bfloat* p) { return bfloats(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
inline Lanes load_part(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
inline Lanes load_part(const Half* p, int64_t n) { return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), p))}; }
inline Lanes load_part(const Bfloat* p, int64_t n) { return bfloats(_mm256_maskz_loadu_epi16(first(n), p)); }
inline void store(float* p, Lanes a) { _mm512_storeu_ps(p, a.v); }
inline void store_part(float* p, Lanes a, int64_t n) { _mm512_mask_storeu_ps(p, first(n), a.v); }

inline Lanes add(Lanes a, Lanes b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Lanes sub(Lanes a, Lanes b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Lanes mul(Lanes a, Lanes b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Lanes div(Lanes a, Lanes b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Lanes larger(Lanes a, Lanes b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Lanes smaller(Lanes a, Lanes b) { return {_mm512_min_ps(a.v, b.v)}; }
// Bit i: a[i] >= b[i].
inline uint32_t at_least(Lanes a, Lanes b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ); }
inline Lanes fma(Lanes a, Lanes b, Lanes c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }

inline __m128 quarter(Lanes a) {  // 8 + 8, 4 + 4
  const __m256 e = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  return _mm_add_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
}
inline float sum(Lanes a) {
  const __m128 q = quarter(a), t = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(t, _mm_shuffle_ps(t, t, 1)));
}
inline void sum4(Lanes a, Lanes b, Lanes c, Lanes d, float* out) {
  const __m128 qa = quarter(a), qb = quarter(b), qc = quarter(c), qd = quarter(d);
  const __m128 ab = _mm_add_ps(_mm_movelh_ps(qa, qb), _mm_movehl_ps(qb, qa));
  const __m128 cd = _mm_add_ps(_mm_movelh_ps(qc, qd), _mm_movehl_ps(qd, qc));
  _mm_storeu_ps(out, _mm_add_ps(_mm_shuffle_ps(ab, cd, 0x88), _mm_shuffle_ps(ab, cd, 0xDD)));
}
inline Lanes times_power(Lanes a, Lanes shifted) {
  const __m512i n = _mm512_sub_epi32(_mm512_castps_si512(shifted.v), _mm512_set1_epi32(0x4B400000));
  const __m512i half = _mm512_srai_epi32(n, 1), rest = _mm512_sub_epi32(n, half), bias = _mm512_set1_epi32(127);
  const __m512 f = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(half, bias), 23));
  const __m512 g = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(rest, bias), 23));
  return {_mm512_mul_ps(_mm512_mul_ps(a.v, f), g)};
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
