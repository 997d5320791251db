// Rearranging BF16 into pairs that lie side by side, 512 bits at a time.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace sonde::kernels::SONDE_ISA {
namespace {

// Nearest BF16 as the upper half of a float.
inline __m512i rounded_bf16(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i nearest = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  return _mm512_and_si512(_mm512_mask_blend_epi32(nan, nearest, quiet), _mm512_set1_epi32(-0x10000));
}
inline void store_bf16(uint16_t* p, __m512 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded_bf16(x), 16)));
}

// The upper halves of `first` and `second` side by side.
inline __m512i upper_halves(__m512i first, __m512i second) {
  const __m512i to_lower = _mm512_set4_epi32(0x0F0E0F0E, 0x0B0A0B0A, 0x07060706, 0x03020302);
  return _mm512_mask_shuffle_epi8(second, 0x3333333333333333, first, to_lower);
}

// What is rounded to BF16 at less cost than to the nearest: times 385/384, of which the upper half is kept. A value errs by
// 4/3 2^-8 of itself instead of 2^-8, as a rule by a seventh more, and not to one side.
constexpr float kBeforeUpperHalf = 385.0f / 384;
// 32 values so, the first sixteen before the second.
inline void store_upper_halves(uint16_t* p, Lanes first, Lanes second) {
  alignas(64) static constexpr uint16_t kUpper[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                                      33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  const __m512 scale = _mm512_set1_ps(kBeforeUpperHalf);
  const __m512i a = _mm512_castps_si512(_mm512_mul_ps(first.v, scale)), b = _mm512_castps_si512(_mm512_mul_ps(second.v, scale));
  _mm512_storeu_si512(p, _mm512_permutex2var_epi16(a, _mm512_load_si512(kUpper), b));
}

// Codes of sixteen rows as BF16, rounded so: scale * (code - zero) + least. Bits of a code at `First` in a word, below the bits
// of a power of two, are that power + the code.
struct CodePairs {
  __m512 scale, least;
  int zero;
  inline CodePairs(__m512 s, __m512 l, int z)
      : scale(_mm512_mul_ps(s, _mm512_set1_ps(kBeforeUpperHalf))), least(_mm512_mul_ps(l, _mm512_set1_ps(kBeforeUpperHalf))), zero(z) {}
  template <int First>
  inline __m512 shift() const {
    return _mm512_fmadd_ps(scale, _mm512_set1_ps(-float((1 << (23 - First)) + zero)), least);
  }
  template <int First, int Bits>
  inline __m512i value(__m512i word, __m512 shifted) const {
    constexpr int kMask = ((1 << Bits) - 1) << First, kPower = (127 + 23 - First) << 23;
    const __m512i whole = _mm512_ternarylogic_epi32(word, _mm512_set1_epi32(kMask), _mm512_set1_epi32(kPower), 0xEA);
    return _mm512_castps_si512(_mm512_fmadd_ps(_mm512_castsi512_ps(whole), scale, shifted));
  }
};

// Bytes, four columns of each row: columns 0 and 1 side by side, then 2 and 3. Before it is rounded a value errs by 2^-15 of
// the scale at most.
struct BytePairs : CodePairs {
  __m512 shifted;
  inline BytePairs(__m512 s, __m512 l, int z) : CodePairs(s, l, z), shifted(shift<15>()) {}
  template <int Byte>
  inline __m512i of(__m512i bytes) const {
    return value<15, 8>(Byte < 2 ? _mm512_slli_epi32(bytes, 15 - 8 * Byte) : _mm512_srli_epi32(bytes, 8 * Byte - 15), shifted);
  }
  inline void store(__m512i bytes, uint32_t* out) const {
    _mm512_storeu_si512(out, upper_halves(of<0>(bytes), of<1>(bytes)));
    _mm512_storeu_si512(out + 16, upper_halves(of<2>(bytes), of<3>(bytes)));
  }
};
// Nibbles, eight columns of each row: the lower ones of four bytes are columns 0 to 3, the upper ones 4 to 7. Before it is
// rounded a value errs by 2^-12 of the scale at most.
struct NibblePairs : CodePairs {
  __m512 shifted[2];
  inline NibblePairs(__m512 s, __m512 l, int z) : CodePairs(s, l, z), shifted{shift<12>(), shift<16>()} {}
  inline void store(__m512i bytes, uint32_t* out) const {
    const __m512i word[4] = {_mm512_slli_epi32(bytes, 12), _mm512_slli_epi32(bytes, 4), _mm512_srli_epi32(bytes, 4),
                             _mm512_srli_epi32(bytes, 12)};
    for (int i = 0; i < 2; ++i) {
      const __m512i *const w = word + 2 * i;
      _mm512_storeu_si512(out + 16 * i, upper_halves(value<12, 4>(w[0], shifted[0]), value<12, 4>(w[1], shifted[0])));
      _mm512_storeu_si512(out + 32 + 16 * i, upper_halves(value<16, 4>(w[0], shifted[1]), value<16, 4>(w[1], shifted[1])));
    }
  }
};

// 32 columns of two tokens side by side, the first of each quarter's eight and the other four: the cheapest order.
struct Quarters {
  __m512i first, second;
  inline Quarters(const uint16_t* a, const uint16_t* b) {
    const __m512i x = _mm512_loadu_si512(a), y = _mm512_loadu_si512(b);
    first = _mm512_unpacklo_epi16(x, y), second = _mm512_unpackhi_epi16(x, y);
  }
};
// Sums of those columns into the order of the columns.
inline void quarters_in_order(__m512& first, __m512& second) {
  const __m512 a = _mm512_shuffle_f32x4(first, second, 0x44), b = _mm512_shuffle_f32x4(first, second, 0xEE);
  first = _mm512_shuffle_f32x4(a, a, 0xD8), second = _mm512_shuffle_f32x4(b, b, 0xD8);
}

// out[j * stride + i] = values 2j and 2j + 1 of rows[i] from k on: 16 rows, 16 pairs.
inline void transpose_pairs(const uint16_t* const* rows, int64_t k, uint32_t* out, int64_t stride) {
  __m512i u[16];
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    const __m512i r0 = _mm512_loadu_si512(rows[i] + k), r1 = _mm512_loadu_si512(rows[i + 1] + k);
    const __m512i r2 = _mm512_loadu_si512(rows[i + 2] + k), r3 = _mm512_loadu_si512(rows[i + 3] + k);
    const __m512i a = _mm512_unpacklo_epi32(r0, r1), b = _mm512_unpacklo_epi32(r2, r3);
    const __m512i c = _mm512_unpackhi_epi32(r0, r1), d = _mm512_unpackhi_epi32(r2, r3);
    u[i] = _mm512_unpacklo_epi64(a, b), u[i + 1] = _mm512_unpackhi_epi64(a, b);
    u[i + 2] = _mm512_unpacklo_epi64(c, d), u[i + 3] = _mm512_unpackhi_epi64(c, d);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {  // quarter q of u[4g + j]: pair 4q + j of rows 4g ... 4g + 3
    const __m512i a = _mm512_shuffle_i32x4(u[j], u[4 + j], 0x44), b = _mm512_shuffle_i32x4(u[j], u[4 + j], 0xEE);
    const __m512i c = _mm512_shuffle_i32x4(u[8 + j], u[12 + j], 0x44);
    const __m512i d = _mm512_shuffle_i32x4(u[8 + j], u[12 + j], 0xEE);
    _mm512_storeu_si512(out + j * stride, _mm512_shuffle_i32x4(a, c, 0x88));
    _mm512_storeu_si512(out + (4 + j) * stride, _mm512_shuffle_i32x4(a, c, 0xDD));
    _mm512_storeu_si512(out + (8 + j) * stride, _mm512_shuffle_i32x4(b, d, 0x88));
    _mm512_storeu_si512(out + (12 + j) * stride, _mm512_shuffle_i32x4(b, d, 0xDD));
  }
}

// out[d] = a[d] and b[d], 64 of each.
inline void interleave_pairs(const uint16_t* a, const uint16_t* b, uint32_t* out) {
  alignas(64) static constexpr uint16_t kLow[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                                    8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  const __m512i low = _mm512_load_si512(kLow), high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
#pragma GCC unroll 2
  for (int d = 0; d < 64; d += 32) {
    const __m512i x = _mm512_loadu_si512(a + d), y = _mm512_loadu_si512(b + d);
    _mm512_storeu_si512(out + d, _mm512_permutex2var_epi16(x, low, y));
    _mm512_storeu_si512(out + d + 16, _mm512_permutex2var_epi16(x, high, y));
  }
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
