// What attention by tiles (body/segment_tiles.h) does with vectors, 512 bits at a time.
#pragma once

#include "kernels/isa/lanes512.h"
#include "kernels/isa/pairs512.h"

namespace sonde::kernels::SONDE_ISA {
namespace {

// Lanes that end at different places.
struct SeenLanes {
  __m512i ends;
  inline explicit SeenLanes(const int32_t* n) : ends(_mm512_loadu_si512(n)) {}
  // -infinity where a lane has ended at i.
  inline Lanes masked(Lanes x, int64_t i) const {
    const __mmask16 seen = _mm512_cmpgt_epi32_mask(ends, _mm512_set1_epi32(int(i)));
    return {_mm512_mask_blend_ps(seen, _mm512_set1_ps(-__builtin_inff()), x.v)};
  }
};

// The nearest BF16 of two weights of each lane, side by side. (A NaN stays one unless its lower half is all ones; what comes
// from BF16 has zeros there.)
inline __m512i nearest_upper(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  return _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
}
inline void store_beside(uint32_t* out, Lanes first, Lanes second) {
  _mm512_storeu_si512(out, upper_halves(nearest_upper(first.v), nearest_upper(second.v)));
}

inline void store_quarters(const uint16_t* a, const uint16_t* b, uint8_t* first, uint8_t* second) {
  const Quarters q(a, b);
  _mm512_storeu_si512(first, q.first), _mm512_storeu_si512(second, q.second);
}
inline void quarters_in_order(Lanes (&x)[2]) { quarters_in_order(x[0].v, x[1].v); }
// Whether 32 BF16 are all finite.
inline bool finite_32(const uint16_t* p) {
  const __m512i exponent = _mm512_set1_epi16(0x7F80);
  return _mm512_cmpeq_epi16_mask(_mm512_and_si512(_mm512_loadu_si512(p), exponent), exponent) == 0;
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
