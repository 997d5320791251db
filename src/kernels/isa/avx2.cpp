// Sixteen lanes as two 256-bit registers: AVX2, FMA, F16C.
// flags x86_64: -mavx2 -mfma -mf16c -mbmi2 -mprfchw
#define SONDE_ISA avx2
#include <immintrin.h>

#include "kernels/table.h"
#include "tensor/quant/all.h"

namespace sonde::kernels::SONDE_ISA {
namespace {

constexpr int kTileRows = 2, kTileTokens = 3;  // 12 accumulators, 3 + 1 operands
constexpr int kFusedTokens = 4;
// 8 integer sums, codes, bytes, masks; the sums in floats lie in the first cache.
constexpr int kStripTokens = 4, kStripAlone = 4, kStripPair = 1, kStripRuns = 2;
constexpr int fused_rows(int tokens) { return tokens <= 2 ? 2 : 1; }  // 8 accumulators at most

struct Half { uint16_t bits; };
struct Bfloat { uint16_t bits; };
struct Byte { uint8_t bits; };  // FP8 of numbers; loaded in units of kOfBytes

struct Lanes { __m256 a, b; };

inline Lanes zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Lanes set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline __m256 bfloats(const Bfloat* p) {
  const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(b), 16));
}
inline __m256 halves(const Half* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline Lanes load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline Lanes load(const Half* p) { return {halves(p), halves(p + 8)}; }
inline Lanes load(const Bfloat* p) { return {bfloats(p), bfloats(p + 8)}; }
constexpr float kOfBytes = quant::SONDE_ISA::F8_E4M3::kOfHalves;  // value of a unit
inline Lanes load(const Byte* p) {
  using Q = quant::SONDE_ISA::F8_E4M3;
  const __m256i halves = Q::halves(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return {_mm256_cvtph_ps(_mm256_castsi256_si128(halves)), _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1))};
}
template <class T>
inline Lanes load_part(const T* p, int64_t n) {
  T copy[16] = {};
  for (int64_t i = 0; i < n; ++i) copy[i] = p[i];
  return load(copy);
}
inline void store(float* p, Lanes x) { _mm256_storeu_ps(p, x.a), _mm256_storeu_ps(p + 8, x.b); }
inline void store_part(float* p, Lanes x, int64_t n) {
  float copy[16];
  store(copy, x);
  for (int64_t i = 0; i < n; ++i) p[i] = copy[i];
}

inline Lanes add(Lanes x, Lanes y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline Lanes sub(Lanes x, Lanes y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline Lanes mul(Lanes x, Lanes y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline Lanes div(Lanes x, Lanes y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline Lanes larger(Lanes x, Lanes y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline Lanes smaller(Lanes x, Lanes y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
// Bit i: x[i] >= y[i].
inline uint32_t at_least(Lanes x, Lanes y) {
  const int low = _mm256_movemask_ps(_mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ));
  return uint32_t(low | _mm256_movemask_ps(_mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ)) << 8);
}
inline Lanes fma(Lanes x, Lanes y, Lanes z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}

inline __m128 quarter(Lanes x) {  // 8 + 8, 4 + 4
  const __m256 e = _mm256_add_ps(x.a, x.b);
  return _mm_add_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
}
inline float sum(Lanes x) {
  const __m128 q = quarter(x), t = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(t, _mm_shuffle_ps(t, t, 1)));
}
inline void sum4(Lanes a, Lanes b, Lanes c, Lanes d, float* out) {
  const __m128 qa = quarter(a), qb = quarter(b), qc = quarter(c), qd = quarter(d);
  const __m128 ab = _mm_add_ps(_mm_movelh_ps(qa, qb), _mm_movehl_ps(qb, qa));
  const __m128 cd = _mm_add_ps(_mm_movelh_ps(qc, qd), _mm_movehl_ps(qd, qc));
  _mm_storeu_ps(out, _mm_add_ps(_mm_shuffle_ps(ab, cd, 0x88), _mm_shuffle_ps(ab, cd, 0xDD)));
}
inline __m256 times_power8(__m256 a, __m256 shifted) {
  const __m256i n = _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(0x4B400000));
  const __m256i half = _mm256_srai_epi32(n, 1), rest = _mm256_sub_epi32(n, half), bias = _mm256_set1_epi32(127);
  const __m256 f = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
  const __m256 g = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
  return _mm256_mul_ps(_mm256_mul_ps(a, f), g);
}
inline Lanes times_power(Lanes x, Lanes shifted) { return {times_power8(x.a, shifted.a), times_power8(x.b, shifted.b)}; }

inline Lanes from_codes(quant::SONDE_ISA::Codes codes) {
  const __m128i all = __builtin_bit_cast(__m128i, codes);
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(all)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(all, 8)))};
}

inline Lanes low_lanes(quant::SONDE_ISA::UCodes q, const quant::SONDE_ISA::Affine& t) {
  return add(mul(from_codes(quant::SONDE_ISA::Codes(quant::SONDE_ISA::low_nibbles(q))), set(t.d)), set(t.m));
}
inline Lanes high_lanes(quant::SONDE_ISA::UCodes q, const quant::SONDE_ISA::Affine& t) {
  return add(mul(from_codes(quant::SONDE_ISA::Codes(quant::SONDE_ISA::high_nibbles(q))), set(t.d)), set(t.m));
}

// Pairs of BF16 as pairs of floats.
constexpr int kPairQueries = 4, kPairVectors = 1;  // 8 accumulators, 4 + 2 operands

struct Direct { static constexpr bool kUsed = false; };
struct Pair { float first, second; };
struct Wide { Lanes first, second; };

inline __m256 first_floats(__m256i pairs) { return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)); }
inline __m256 second_floats(__m256i pairs) {
  return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(-0x10000)));
}
inline Wide load_pairs(const uint32_t* p) {
  const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8));
  return {{first_floats(a), first_floats(b)}, {second_floats(a), second_floats(b)}};
}
inline Wide splat(const Pair* p) { return {set(p->first), set(p->second)}; }
inline Wide first_of(Wide w) { return {w.first, zero()}; }
inline Lanes dot_pairs(Lanes acc, Wide a, Wide b) { return fma(a.first, b.first, fma(a.second, b.second, acc)); }

// Nearest BF16 as the upper half of a float.
inline __m256i rounded_bf16(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i nearest = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return _mm256_and_si256(_mm256_blendv_epi8(nearest, quiet, nan), _mm256_set1_epi32(-0x10000));
}
inline void store_pairs(Pair* p, Lanes x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), rounded_bf16(x.a));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 4), rounded_bf16(x.b));
}
inline void store_bf16(uint16_t* p, Lanes x) {
  const __m256i packed = _mm256_packus_epi32(_mm256_srli_epi32(rounded_bf16(x.a), 16), _mm256_srli_epi32(rounded_bf16(x.b), 16));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xD8));
}

inline void transpose8(const uint16_t* const* rows, int64_t k, uint32_t* out, int64_t stride) {
  __m256i u[8];
  for (int i = 0; i < 8; i += 4) {
    __m256i r[4];
    for (int j = 0; j < 4; ++j) r[j] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[i + j] + k));
    const __m256i a = _mm256_unpacklo_epi32(r[0], r[1]), b = _mm256_unpacklo_epi32(r[2], r[3]);
    const __m256i c = _mm256_unpackhi_epi32(r[0], r[1]), d = _mm256_unpackhi_epi32(r[2], r[3]);
    u[i] = _mm256_unpacklo_epi64(a, b), u[i + 1] = _mm256_unpackhi_epi64(a, b);
    u[i + 2] = _mm256_unpacklo_epi64(c, d), u[i + 3] = _mm256_unpackhi_epi64(c, d);
  }
  for (int j = 0; j < 4; ++j) {
    const auto to = [&](int row) { return reinterpret_cast<__m256i*>(out + row * stride); };
    _mm256_storeu_si256(to(j), _mm256_permute2x128_si256(u[j], u[4 + j], 0x20));
    _mm256_storeu_si256(to(4 + j), _mm256_permute2x128_si256(u[j], u[4 + j], 0x31));
  }
}
// out[j * stride + i] = values 2j and 2j + 1 of rows[i] from k on: 16 rows, 16 pairs.
inline void transpose_pairs(const uint16_t* const* rows, int64_t k, uint32_t* out, int64_t stride) {
  for (int i = 0; i < 16; i += 8) {
    for (int j = 0; j < 16; j += 8) transpose8(rows + i, k + 2 * j, out + j * stride + i, stride);
  }
}
// out[d] = a[d] and b[d], 64 of each.
inline void interleave_pairs(const uint16_t* a, const uint16_t* b, uint32_t* out) {
  for (int d = 0; d < 64; d += 8) {
    const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(a + d));
    const __m128i y = _mm_loadu_si128(reinterpret_cast<const __m128i*>(b + d));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + d), _mm_unpacklo_epi16(x, y));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + d + 4), _mm_unpackhi_epi16(x, y));
  }
}

struct Bytes { __m256i a, b; };
inline Bytes set_bytes(int x) { return {_mm256_set1_epi8(char(x)), _mm256_set1_epi8(char(x))}; }
inline __m256i bytes_fma8(__m256i c, __m256i x, __m256i y) {  // no VNNI: pairs to int16, pairs of those to int32
  __asm__("" : "+x"(x));                                      // else the product is loop-invariant
  return _mm256_add_epi32(c, _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), _mm256_set1_epi16(1)));
}
inline Bytes bytes_fma(Bytes c, Bytes x, Bytes y) { return {bytes_fma8(c.a, x.a, y.a), bytes_fma8(c.b, x.b, y.b)}; }
inline float any_value(Bytes c) { return float(_mm256_cvtsi256_si32(_mm256_add_epi32(c.a, c.b))); }

// --- integer products (body/strips.h) -------------------------------------------------------------------------------
inline Lanes magnitude(Lanes x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
inline float largest_lane(Lanes x) {
  const __m256 e = _mm256_max_ps(x.a, x.b);
  const __m128 q = _mm_max_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
  const __m128 t = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(t, _mm_shuffle_ps(t, t, 1)));
}
// By their bits: NaN is larger than infinity, and that than all else.
inline __m256 larger_bits(__m256 a, __m256 b) {
  return _mm256_castsi256_ps(_mm256_max_epu32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}
inline Lanes larger_magnitude(Lanes x, Lanes y) {
  const Lanes a = magnitude(x), b = magnitude(y);
  return {larger_bits(a.a, b.a), larger_bits(a.b, b.b)};
}
// Lane i: the largest of v[i], which are magnitudes; of sixteen.
inline Lanes largest_of_each(const Lanes* v) {
  __m256 twos[8], fours[4], eights[2];
  for (int i = 0; i < 8; ++i) {
    const __m256 a = larger_bits(v[2 * i].a, v[2 * i].b), b = larger_bits(v[2 * i + 1].a, v[2 * i + 1].b);
    twos[i] = larger_bits(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
  }
  for (int i = 0; i < 4; ++i) {
    const __m256d a = _mm256_castps_pd(twos[2 * i]), b = _mm256_castps_pd(twos[2 * i + 1]);
    fours[i] = larger_bits(_mm256_castpd_ps(_mm256_unpacklo_pd(a, b)), _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)));
  }
  for (int i = 0; i < 2; ++i) {
    const __m256 a = fours[2 * i], b = fours[2 * i + 1];
    eights[i] = larger_bits(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  }
  return {eights[0], eights[1]};
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
// Nearest integers of x * inverse, halves to even.
inline void to_bytes(Lanes x, float inverse, int8_t* out) {
  const Lanes shifted = fma(x, set(inverse), set(12582912.0f));
  const __m256i byte = _mm256_set1_epi32(0xFF);
  const __m256i words = _mm256_packs_epi32(_mm256_and_si256(_mm256_castps_si256(shifted.a), byte),
                                           _mm256_and_si256(_mm256_castps_si256(shifted.b), byte));
  const __m256i bytes = _mm256_packus_epi16(words, words);  // 0-3 8-11 . . 4-7 12-15 . .
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(bytes, order)));
}

constexpr int kSignedCodes = -1;
struct Quads { __m256i a, b; };  // four codes of each of sixteen rows
inline Quads load_quads(const uint8_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32))};
}
inline Quads masked(Quads x, int mask) {
  const __m256i m = _mm256_set1_epi8(char(mask));
  return {_mm256_and_si256(x.a, m), _mm256_and_si256(x.b, m)};
}
inline Quads either(Quads x, Quads y) { return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }
inline Quads upper_nibbles(Quads x) { return masked({_mm256_srli_epi16(x.a, 4), _mm256_srli_epi16(x.b, 4)}, 0x0F); }
// Left by n bits, right where n is below 0; what crosses into the next byte must be masked off.
inline Quads moved(Quads x, int n) {
  return n >= 0 ? Quads{_mm256_slli_epi16(x.a, n), _mm256_slli_epi16(x.b, n)}
                : Quads{_mm256_srli_epi16(x.a, -n), _mm256_srli_epi16(x.b, -n)};
}
inline Quads looked_up(const int8_t* table, Quads index) {
  const __m256i values = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table)));
  return {_mm256_shuffle_epi8(values, index.a), _mm256_shuffle_epi8(values, index.b)};
}

struct Bytes4 {  // of one token, beside the codes of every row
  explicit Bytes4(const uint8_t* p) {
    int32_t bytes;
    __builtin_memcpy(&bytes, p, 4);
    v = _mm256_set1_epi32(bytes);
  }
  __m256i v;
};
// Sums of sixteen rows: codes times one token's bytes. Codes: 0 ... Most, or signed bytes (kSignedCodes, kZero 128).
// Pairs of products in int16 lanes: as many as cannot overflow, then into int32 lanes. Codes beyond 7 bits go by their
// magnitude, the sign moves to the token's bytes.
template <int Most>
struct Dots {
  static constexpr bool kBySign = Most > 127 || Most == kSignedCodes;
  static constexpr int kPairs = kBySign ? 1 : 32767 / (2 * 127 * Most);
  Quads sum, pairs;
  inline void start(const uint8_t* at) {
    int32_t first = 0;
    if (at != nullptr && !kBySign) __builtin_memcpy(&first, at, 4);
    sum = {_mm256_set1_epi32(first), _mm256_set1_epi32(first)};
    pairs = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  }
  inline void add(const Quads& codes, const Bytes4& four, int index) {
    const __m256i x = four.v;
    if constexpr (kBySign) {
      pairs = {_mm256_maddubs_epi16(_mm256_abs_epi8(codes.a), _mm256_sign_epi8(x, codes.a)),
               _mm256_maddubs_epi16(_mm256_abs_epi8(codes.b), _mm256_sign_epi8(x, codes.b))};
      flush();
      __asm__("" : "+x"(sum.a), "+x"(sum.b));
    } else {
      pairs = {_mm256_add_epi16(pairs.a, _mm256_maddubs_epi16(codes.a, x)),
               _mm256_add_epi16(pairs.b, _mm256_maddubs_epi16(codes.b, x))};
      __asm__("" : "+x"(pairs.a), "+x"(pairs.b));  // else all products are made before they are added, and do not fit
      if ((index + 1) % kPairs == 0) flush();
    }
  }
  inline void flush() {
    const __m256i one = _mm256_set1_epi16(1);
    sum = {_mm256_add_epi32(sum.a, _mm256_madd_epi16(pairs.a, one)), _mm256_add_epi32(sum.b, _mm256_madd_epi16(pairs.b, one))};
    pairs = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  }
  inline Lanes lanes() {
    if constexpr (!kBySign) flush();
    return {_mm256_cvtepi32_ps(sum.a), _mm256_cvtepi32_ps(sum.b)};
  }
};
template <int Most>
inline Quads prepared(Quads codes) {
  if constexpr (Most > 127) {
    const __m256i top = _mm256_set1_epi8(char(0x80));
    return {_mm256_xor_si256(codes.a, top), _mm256_xor_si256(codes.b, top)};
  }
  return codes;
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA

#include "kernels/body/all.h"

namespace sonde::kernels::avx2 {
namespace {
bool runs(const CpuFeatures& f) { return f.avx2; }
const KernelTable& table(const KernelTable*, const CpuFeatures&) { return kTable; }
}  // namespace
extern const InstructionSet kSet{"avx2", 10, runs, table};
}  // namespace sonde::kernels::avx2
