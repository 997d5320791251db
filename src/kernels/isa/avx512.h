// What the AVX-512 sets share. SONDE_ISA names the set of the file that includes this.
#pragma once

#include <immintrin.h>

#include "kernels/isa/lanes512.h"
#include "kernels/isa/pairs512.h"
#include "kernels/table.h"
#include "tensor/quant/all.h"

namespace sonde::kernels::SONDE_ISA {
namespace {

constexpr int kTileRows = 4, kTileTokens = 6;  // 24 accumulators, 4 + 1 operands
constexpr int kFusedTokens = 12;
constexpr int kStripTokens = 6, kStripPair = 2;  // 12 sums, 12 integer sums, 2 codes, bytes, masks
constexpr int kStripAlone = 8;                   // of one strip
constexpr int kStripRuns = 2;                    // of memory at once, where the processor likes it (kernels::read_once)
constexpr int fused_rows(int tokens) { return tokens <= 4 ? 4 : 2; }  // 24 accumulators at most, beside tables and codes

constexpr float kOfBytes = quant::SONDE_ISA::F8_E4M3::kOfHalves;  // value of a unit
inline Lanes load(const Byte* p) {
  using Q = quant::SONDE_ISA::F8_E4M3;
  return {_mm512_cvtph_ps(Q::halves(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}

inline Lanes from_codes(quant::SONDE_ISA::Codes codes) { return {quant::SONDE_ISA::floats(codes)}; }

inline Lanes low_lanes(quant::SONDE_ISA::UCodes q, const quant::SONDE_ISA::Affine& t) {
  return {quant::SONDE_ISA::low_values(q, t)};
}
inline Lanes high_lanes(quant::SONDE_ISA::UCodes q, const quant::SONDE_ISA::Affine& t) {
  return {quant::SONDE_ISA::high_values(q, t)};
}

// Pairs of BF16 as pairs of floats.
constexpr int kPairQueries = 12, kPairVectors = 2;  // 24 accumulators, 4 + 2 operands

struct Direct { static constexpr bool kUsed = false; };
struct Pair { float first, second; };
struct Wide { Lanes first, second; };

inline Wide load_pairs(const uint32_t* p) {
  const __m512i v = _mm512_loadu_si512(p);
  return {{_mm512_castsi512_ps(_mm512_slli_epi32(v, 16))},
          {_mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32(-0x10000)))}};
}
inline Wide splat(const Pair* p) { return {set(p->first), set(p->second)}; }
inline Wide first_of(Wide w) { return {w.first, zero()}; }
inline Lanes dot_pairs(Lanes acc, Wide a, Wide b) { return fma(a.first, b.first, fma(a.second, b.second, acc)); }
inline void store_bf16(uint16_t* p, Lanes x) { store_bf16(p, x.v); }
inline void store_pairs(Pair* p, Lanes x) { _mm512_storeu_si512(p, rounded_bf16(x.v)); }
// The nearest BF16 of two values of each lane, side by side.
inline void store_nearest_pairs(uint32_t* out, Lanes first, Lanes second) {
  _mm512_storeu_si512(out, upper_halves(rounded_bf16(first.v), rounded_bf16(second.v)));
}

struct Bytes { __m512i v; };
inline Bytes set_bytes(int x) { return {_mm512_set1_epi8(char(x))}; }
inline Bytes bytes_fma(Bytes c, Bytes x, Bytes y) {
  __asm__("" : "+v"(x.v));  // else the product is loop-invariant
#ifdef __AVX512VNNI__
  return {_mm512_dpbusd_epi32(c.v, x.v, y.v)};
#else
  return {_mm512_add_epi32(c.v, _mm512_madd_epi16(_mm512_maddubs_epi16(x.v, y.v), _mm512_set1_epi16(1)))};
#endif
}
inline float any_value(Bytes c) { return float(_mm512_cvtsi512_si32(c.v)); }

// --- integer products (body/strips.h) -------------------------------------------------------------------------------
inline Lanes magnitude(Lanes a) { return {_mm512_abs_ps(a.v)}; }
inline float largest_lane(Lanes a) { return _mm512_reduce_max_ps(a.v); }
// By their bits: NaN is larger than infinity, and that than all else.
inline Lanes larger_bits(Lanes a, Lanes b) {
  return {_mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(a.v), _mm512_castps_si512(b.v)))};
}
inline Lanes larger_magnitude(Lanes a, Lanes b) { return larger_bits(magnitude(a), magnitude(b)); }
// Lane i: the largest of v[i], which are magnitudes; of sixteen.
inline Lanes largest_of_each(const Lanes* v) {
  Lanes twos[8], fours[4], eights[2];
  for (int i = 0; i < 8; ++i) {
    const __m512 a = v[2 * i].v, b = v[2 * i + 1].v;
    twos[i] = larger_bits({_mm512_unpacklo_ps(a, b)}, {_mm512_unpackhi_ps(a, b)});
  }
  for (int i = 0; i < 4; ++i) {
    const __m512d a = _mm512_castps_pd(twos[2 * i].v), b = _mm512_castps_pd(twos[2 * i + 1].v);
    fours[i] = larger_bits({_mm512_castpd_ps(_mm512_unpacklo_pd(a, b))}, {_mm512_castpd_ps(_mm512_unpackhi_pd(a, b))});
  }
  const auto across = [](Lanes a, Lanes b) {
    return larger_bits({_mm512_shuffle_f32x4(a.v, b.v, 0x88)}, {_mm512_shuffle_f32x4(a.v, b.v, 0xDD)});
  };
  for (int i = 0; i < 2; ++i) eights[i] = across(fours[2 * i], fours[2 * i + 1]);
  return across(eights[0], eights[1]);
}
inline int32_t byte_sum(const int8_t* p) {  // of sixteen
  const __m128i bytes = _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)), _mm_set1_epi8(char(0x80)));
  const __m128i s = _mm_sad_epu8(bytes, _mm_setzero_si128());
  return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_unpackhi_epi64(s, s))) - 16 * 128;
}
inline Lanes set_from(const uint8_t* p) {
  float f;
  __builtin_memcpy(&f, p, 4);
  return set(f);
}
// Nearest integers of a * inverse, halves to even.
inline void to_bytes(Lanes a, float inverse, int8_t* out) {
  const __m512 shifted = _mm512_fmadd_ps(a.v, _mm512_set1_ps(inverse), _mm512_set1_ps(12582912.0f));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(_mm512_castps_si512(shifted)));
}

constexpr int kSignedCodes = -1;
struct Quads { __m512i v; };  // four codes of each of sixteen rows
inline Quads load_quads(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
inline Quads masked(Quads a, int mask) { return {_mm512_and_si512(a.v, _mm512_set1_epi8(char(mask)))}; }
inline Quads either(Quads a, Quads b) { return {_mm512_or_si512(a.v, b.v)}; }
inline Quads upper_nibbles(Quads a) { return masked({_mm512_srli_epi16(a.v, 4)}, 0x0F); }
inline void store_quads(uint8_t* p, Quads a) { _mm512_storeu_si512(p, a.v); }
inline Quads less(Quads a, int n) { return {_mm512_sub_epi8(a.v, _mm512_set1_epi8(char(n)))}; }
inline Lanes load_integers(const int32_t* p) { return {_mm512_cvtepi32_ps(_mm512_loadu_si512(p))}; }
// Left by n bits, right where n is below 0; what crosses into the next byte must be masked off.
inline Quads moved(Quads a, int n) {
  return {n >= 0 ? _mm512_slli_epi16(a.v, unsigned(n)) : _mm512_srli_epi16(a.v, unsigned(-n))};
}
inline Quads looked_up(const int8_t* table, Quads index) {
  const __m128i values = _mm_load_si128(reinterpret_cast<const __m128i*>(table));
  return {_mm512_shuffle_epi8(_mm512_broadcast_i32x4(values), index.v)};
}

struct Bytes4 {  // of one token, beside the codes of every row
  explicit Bytes4(const uint8_t* p) {
    int32_t bytes;
    __builtin_memcpy(&bytes, p, 4);
    v = _mm512_set1_epi32(bytes);
  }
  __m512i v;
};
// Sums of sixteen rows: codes times one token's bytes. Codes: 0 ... Most, or signed bytes (kSignedCodes, kZero 128).
#ifdef __AVX512VNNI__
template <int Most>
struct Dots {
  __m512i sum;
  inline void start(const uint8_t* at) {
    int32_t first = 0;
    if (at != nullptr) __builtin_memcpy(&first, at, 4);
    sum = _mm512_set1_epi32(first);
  }
  inline void add(Quads codes, const Bytes4& four, int) { sum = _mm512_dpbusd_epi32(sum, codes.v, four.v); }
  inline Lanes lanes() { return {_mm512_cvtepi32_ps(sum)}; }
};
template <int Most>
inline Quads prepared(Quads codes) {
  if constexpr (Most == kSignedCodes) return {_mm512_xor_si512(codes.v, _mm512_set1_epi8(char(0x80)))};
  return codes;
}
#else
// Pairs of products in int16 lanes: as many as cannot overflow, then into int32 lanes. Codes beyond 7 bits go by their
// magnitude, the sign moves to the token's bytes.
template <int Most>
struct Dots {
  static constexpr bool kBySign = Most > 127 || Most == kSignedCodes;
  static constexpr int kPairs = kBySign ? 1 : 32767 / (2 * 127 * Most);
  __m512i sum, pairs;
  inline void start(const uint8_t* at) {
    int32_t first = 0;
    if (at != nullptr && !kBySign) __builtin_memcpy(&first, at, 4);
    sum = _mm512_set1_epi32(first), pairs = _mm512_setzero_si512();
  }
  inline void add(Quads codes, const Bytes4& four, int index) {
    const __m512i x = four.v;
    if constexpr (kBySign) {
      const __m512i turned = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(codes.v), _mm512_setzero_si512(), x);
      const __m512i products = _mm512_maddubs_epi16(_mm512_abs_epi8(codes.v), turned);
      sum = _mm512_add_epi32(sum, _mm512_madd_epi16(products, _mm512_set1_epi16(1)));
    } else {
      pairs = _mm512_add_epi16(pairs, _mm512_maddubs_epi16(codes.v, x));
      __asm__("" : "+v"(pairs));  // else all products are made before they are added, and do not fit
      if ((index + 1) % kPairs == 0) flush();
    }
  }
  inline void flush() {
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
    pairs = _mm512_setzero_si512();
  }
  inline Lanes lanes() {
    if constexpr (!kBySign) flush();
    return {_mm512_cvtepi32_ps(sum)};
  }
};
template <int Most>
inline Quads prepared(Quads codes) {
  if constexpr (Most > 127) return {_mm512_xor_si512(codes.v, _mm512_set1_epi8(char(0x80)))};
  return codes;
}
#endif

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
