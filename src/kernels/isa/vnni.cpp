// The int8 dot product of processors with AVX-512 VNNI.
#include <immintrin.h>

#include "kernels/table.h"

namespace sonde::kernels {

int64_t vnni_int8_burst(int64_t rounds, float* result) {
  constexpr int kChains = 12;
  __m512i c[kChains];
  const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
  for (int i = 0; i < kChains; ++i) c[i] = _mm512_set1_epi32(i);
  for (int64_t k = 0; k < rounds; ++k) {
    for (int i = 0; i < kChains; ++i) c[i] = _mm512_dpbusd_epi32(c[i], a, b);
  }
  __m512i total = c[0];
  for (int i = 1; i < kChains; ++i) total = _mm512_add_epi32(total, c[i]);
  *result = float(_mm_cvtsi128_si32(_mm512_castsi512_si128(total)));
  return rounds * kChains * 64 * 2;
}

}  // namespace sonde::kernels
