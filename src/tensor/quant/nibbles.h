// Sixteen values by 4-bit index.
#pragma once

#include "tensor/quant/bits.h"
#ifdef __SSSE3__
#include <immintrin.h>
#endif

namespace sonde::quant::SONDE_ISA {

alignas(16) inline constexpr int8_t kUneven[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
alignas(16) inline constexpr int8_t kTwiceE2m1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// out[j] = d * table[low nibble of q[j]], out[j + 16] = d * table[high nibble]; table aligned to 16 bytes.
inline void table_run(float d, const uint8_t* q, const int8_t* table, float* __restrict out) {
#if defined(__AVX512F__)
  const __m512 values = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(table))));
  const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q)));
  const __m512 scale = _mm512_set1_ps(d);  // the permutation looks at four bits of each index alone
  _mm512_storeu_ps(out, _mm512_mul_ps(scale, _mm512_permutexvar_ps(bytes, values)));
  _mm512_storeu_ps(out + 16, _mm512_mul_ps(scale, _mm512_permutexvar_ps(_mm512_srli_epi32(bytes, 4), values)));
#elif defined(__AVX2__)
  const __m128i values = _mm_load_si128(reinterpret_cast<const __m128i*>(table)), mask = _mm_set1_epi8(15);
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(q));
  const __m128i low = _mm_shuffle_epi8(values, _mm_and_si128(bytes, mask));
  const __m128i high = _mm_shuffle_epi8(values, _mm_and_si128(_mm_srli_epi16(bytes, 4), mask));
  const __m256 scale = _mm256_set1_ps(d);
  auto eight = [&](__m128i codes, float* at) {
    _mm256_storeu_ps(at, _mm256_mul_ps(scale, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes))));
  };
  eight(low, out);
  eight(_mm_srli_si128(low, 8), out + 8);
  eight(high, out + 16);
  eight(_mm_srli_si128(high, 8), out + 24);
#else
  for (int j = 0; j < 16; ++j) out[j] = d * float(table[q[j] & 15]);
  for (int j = 0; j < 16; ++j) out[j + 16] = d * float(table[q[j] >> 4]);
#endif
}

}  // namespace sonde::quant::SONDE_ISA
