// Sixteen lanes as four 128-bit registers: NEON, as every AArch64 processor has it; with the dot product where the file that
// includes this is compiled for it. SONDE_ISA names the set of that file.
// (gcc moves loads far ahead of their use, and then has no registers for the sums: isa/*.cpp keep it from that.)
#pragma once

#define SONDE_NEON  // tensor/quant has a few forms of its own
#include <arm_neon.h>

#include "kernels/table.h"
#include "tensor/quant/all.h"

namespace sonde::kernels::SONDE_ISA {
namespace {

constexpr int kTileRows = 2, kTileTokens = 2;  // 16 accumulators, 8 + 4 operands
constexpr int kFusedTokens = 4;
constexpr int fused_rows(int tokens) { return tokens <= 2 ? 2 : 1; }  // 16 accumulators at most
#ifdef __ARM_FEATURE_DOTPROD
constexpr int kStripTokens = 3, kStripAlone = 3, kStripPair = 1, kStripRuns = 1;  // 12 sums, 12 integer sums, 4 codes, bytes, mask
#else
constexpr int kStripTokens = 2, kStripAlone = 2, kStripPair = 1, kStripRuns = 1;  // 8 sums, 16 of pairs, 4 codes, bytes, mask
#endif

struct Half { uint16_t bits; };
struct Bfloat { uint16_t bits; };
struct Byte { uint8_t bits; };  // FP8 of numbers; loaded in units of kOfBytes
constexpr float kOfBytes = 1;

struct Lanes { float32x4_t a, b, c, d; };

inline Lanes from(uint32x4_t a, uint32x4_t b, uint32x4_t c, uint32x4_t d) {
  return {vreinterpretq_f32_u32(a), vreinterpretq_f32_u32(b), vreinterpretq_f32_u32(c), vreinterpretq_f32_u32(d)};
}
inline Lanes from(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d) {
  return {vcvtq_f32_s32(a), vcvtq_f32_s32(b), vcvtq_f32_s32(c), vcvtq_f32_s32(d)};
}
inline Lanes set(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x), vdupq_n_f32(x), vdupq_n_f32(x)}; }
inline Lanes zero() { return set(0); }
inline Lanes load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}; }
inline Lanes load(const Half* p) {
  const float16x8_t x = vreinterpretq_f16_u16(vld1q_u16(&p->bits)), y = vreinterpretq_f16_u16(vld1q_u16(&p[8].bits));
  return {vcvt_f32_f16(vget_low_f16(x)), vcvt_high_f32_f16(x), vcvt_f32_f16(vget_low_f16(y)), vcvt_high_f32_f16(y)};
}
inline Lanes load(const Bfloat* p) {
  const uint16x8_t x = vld1q_u16(&p->bits), y = vld1q_u16(&p[8].bits), none = vdupq_n_u16(0);
  return from(vreinterpretq_u32_u16(vzip1q_u16(none, x)), vreinterpretq_u32_u16(vzip2q_u16(none, x)),
              vreinterpretq_u32_u16(vzip1q_u16(none, y)), vreinterpretq_u32_u16(vzip2q_u16(none, y)));
}
inline Lanes load(const Byte* p) {
  float values[16];
  quant::SONDE_ISA::F8_E4M3::unpack(reinterpret_cast<const std::byte*>(p), 16, values);
  return load(values);
}
template <class T>
inline Lanes load_part(const T* p, int64_t n) {
  T copy[16] = {};
  for (int64_t i = 0; i < n; ++i) copy[i] = p[i];
  return load(copy);
}
inline void store(float* p, Lanes x) { vst1q_f32(p, x.a), vst1q_f32(p + 4, x.b), vst1q_f32(p + 8, x.c), vst1q_f32(p + 12, x.d); }
inline void store_part(float* p, Lanes x, int64_t n) {
  float copy[16];
  store(copy, x);
  for (int64_t i = 0; i < n; ++i) p[i] = copy[i];
}

inline Lanes add(Lanes x, Lanes y) { return {x.a + y.a, x.b + y.b, x.c + y.c, x.d + y.d}; }
inline Lanes sub(Lanes x, Lanes y) { return {x.a - y.a, x.b - y.b, x.c - y.c, x.d - y.d}; }
inline Lanes mul(Lanes x, Lanes y) { return {x.a * y.a, x.b * y.b, x.c * y.c, x.d * y.d}; }
inline Lanes div(Lanes x, Lanes y) { return {x.a / y.a, x.b / y.b, x.c / y.c, x.d / y.d}; }
// NaN where either is.
inline Lanes larger(Lanes x, Lanes y) {
  return {vmaxq_f32(x.a, y.a), vmaxq_f32(x.b, y.b), vmaxq_f32(x.c, y.c), vmaxq_f32(x.d, y.d)};
}
inline Lanes smaller(Lanes x, Lanes y) {
  return {vminq_f32(x.a, y.a), vminq_f32(x.b, y.b), vminq_f32(x.c, y.c), vminq_f32(x.d, y.d)};
}
inline uint32_t at_least4(float32x4_t x, float32x4_t y) {
  constexpr uint32x4_t kBits = {1, 2, 4, 8};
  return vaddvq_u32(vcgeq_f32(x, y) & kBits);
}
// Bit i: x[i] >= y[i].
inline uint32_t at_least(Lanes x, Lanes y) {
  return at_least4(x.a, y.a) | at_least4(x.b, y.b) << 4 | at_least4(x.c, y.c) << 8 | at_least4(x.d, y.d) << 12;
}
inline Lanes fma(Lanes x, Lanes y, Lanes z) {
  return {vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b), vfmaq_f32(z.c, x.c, y.c), vfmaq_f32(z.d, x.d, y.d)};
}

inline float32x4_t quarter(Lanes x) { return (x.a + x.c) + (x.b + x.d); }  // 8 + 8, 4 + 4
inline float sum(Lanes x) {
  const float32x4_t q = quarter(x);
  return vpadds_f32(vadd_f32(vget_low_f32(q), vget_high_f32(q)));
}
inline float32x4_t halves_of(Lanes x, Lanes y) {  // 2 + 2 of both
  const float64x2_t p = vreinterpretq_f64_f32(quarter(x)), q = vreinterpretq_f64_f32(quarter(y));
  return vreinterpretq_f32_f64(vzip1q_f64(p, q)) + vreinterpretq_f32_f64(vzip2q_f64(p, q));
}
inline void sum4(Lanes a, Lanes b, Lanes c, Lanes d, float* out) {
  vst1q_f32(out, vpaddq_f32(halves_of(a, b), halves_of(c, d)));
}

inline float32x4_t times_power4(float32x4_t x, float32x4_t shifted) {
  const uint32x4_t n = vreinterpretq_u32_f32(shifted) - 0x4B400000;
  const uint32x4_t half = vreinterpretq_u32_s32(vshrq_n_s32(vreinterpretq_s32_u32(n), 1)), rest = n - half;
  return x * vreinterpretq_f32_u32((half + 127) << 23) * vreinterpretq_f32_u32((rest + 127) << 23);
}
inline Lanes times_power(Lanes x, Lanes shifted) {
  return {times_power4(x.a, shifted.a), times_power4(x.b, shifted.b), times_power4(x.c, shifted.c), times_power4(x.d, shifted.d)};
}

inline Lanes from_codes(quant::SONDE_ISA::Codes codes) {
  const int8x16_t all = __builtin_bit_cast(int8x16_t, codes);
  const int16x8_t low = vmovl_s8(vget_low_s8(all)), high = vmovl_high_s8(all);
  return from(vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high));
}
inline Lanes low_lanes(quant::SONDE_ISA::UCodes q, const quant::SONDE_ISA::Affine& t) {
  return add(mul(from_codes(quant::SONDE_ISA::Codes(quant::SONDE_ISA::low_nibbles(q))), set(t.d)), set(t.m));
}
inline Lanes high_lanes(quant::SONDE_ISA::UCodes q, const quant::SONDE_ISA::Affine& t) {
  return add(mul(from_codes(quant::SONDE_ISA::Codes(quant::SONDE_ISA::high_nibbles(q))), set(t.d)), set(t.m));
}

// Pairs of BF16 as pairs of floats.
constexpr int kPairQueries = 4, kPairVectors = 1;  // 16 accumulators, 8 + 1 operands

struct Direct { static constexpr bool kUsed = false; };
struct Pair { float first, second; };
struct Wide { Lanes first, second; };
struct Splat { float32x2_t both; };  // stands for all lanes

inline Wide load_pairs(const uint32_t* p) {
  const uint32x4_t a = vld1q_u32(p), b = vld1q_u32(p + 4), c = vld1q_u32(p + 8), d = vld1q_u32(p + 12);
  const uint32x4_t upper = vdupq_n_u32(0xFFFF0000u);
  return {from(a << 16, b << 16, c << 16, d << 16), from(a & upper, b & upper, c & upper, d & upper)};
}
inline Splat splat(const Pair* p) { return {vld1_f32(&p->first)}; }
inline Wide first_of(Wide w) { return {w.first, zero()}; }
template <int N>
inline Lanes fma_lane(Splat x, Lanes y, Lanes z) {
  return {vfmaq_lane_f32(z.a, y.a, x.both, N), vfmaq_lane_f32(z.b, y.b, x.both, N), vfmaq_lane_f32(z.c, y.c, x.both, N),
          vfmaq_lane_f32(z.d, y.d, x.both, N)};
}
inline Lanes dot_pairs(Lanes acc, Splat x, Wide y) { return fma_lane<0>(x, y.first, fma_lane<1>(x, y.second, acc)); }

// Nearest BF16 as the upper half of a float.
inline uint32x4_t rounded_bf16(float32x4_t x) {
  const uint32x4_t bits = vreinterpretq_u32_f32(x), nearest = bits + ((bits >> 16 & 1) + 0x7FFF);
  return vbslq_u32(vceqq_f32(x, x), nearest, bits | 0x400000) & 0xFFFF0000u;
}
inline void store_pairs(Pair* p, Lanes x) {
  store(&p->first, from(rounded_bf16(x.a), rounded_bf16(x.b), rounded_bf16(x.c), rounded_bf16(x.d)));
}
inline uint16x8_t bf16_of(float32x4_t x, float32x4_t y) {
  return vuzp2q_u16(vreinterpretq_u16_u32(rounded_bf16(x)), vreinterpretq_u16_u32(rounded_bf16(y)));
}
inline void store_bf16(uint16_t* p, Lanes x) { vst1q_u16(p, bf16_of(x.a, x.b)), vst1q_u16(p + 8, bf16_of(x.c, x.d)); }

// out[j * stride + i] = values 2j and 2j + 1 of rows[i] from k on: 16 rows, 16 pairs.
inline void transpose_pairs(const uint16_t* const* rows, int64_t k, uint32_t* out, int64_t stride) {
  for (int i = 0; i < 16; i += 4) {
    for (int j = 0; j < 16; j += 4) {
      uint32x4_t r[4];
      for (int n = 0; n < 4; ++n) r[n] = vreinterpretq_u32_u16(vld1q_u16(rows[i + n] + k + 2 * j));
      const uint64x2_t a = vreinterpretq_u64_u32(vtrn1q_u32(r[0], r[1])), b = vreinterpretq_u64_u32(vtrn1q_u32(r[2], r[3]));
      const uint64x2_t c = vreinterpretq_u64_u32(vtrn2q_u32(r[0], r[1])), d = vreinterpretq_u64_u32(vtrn2q_u32(r[2], r[3]));
      uint32_t* const to = out + j * stride + i;
      vst1q_u32(to, vreinterpretq_u32_u64(vzip1q_u64(a, b))), vst1q_u32(to + stride, vreinterpretq_u32_u64(vzip1q_u64(c, d)));
      vst1q_u32(to + 2 * stride, vreinterpretq_u32_u64(vzip2q_u64(a, b)));
      vst1q_u32(to + 3 * stride, vreinterpretq_u32_u64(vzip2q_u64(c, d)));
    }
  }
}
// out[d] = a[d] and b[d], 64 of each.
inline void interleave_pairs(const uint16_t* a, const uint16_t* b, uint32_t* out) {
  for (int d = 0; d < 64; d += 8) {
    const uint16x8_t x = vld1q_u16(a + d), y = vld1q_u16(b + d);
    vst1q_u32(out + d, vreinterpretq_u32_u16(vzip1q_u16(x, y))), vst1q_u32(out + d + 4, vreinterpretq_u32_u16(vzip2q_u16(x, y)));
  }
}

// --- integer products (body/strips.h) -------------------------------------------------------------------------------
inline Lanes magnitude(Lanes x) { return {vabsq_f32(x.a), vabsq_f32(x.b), vabsq_f32(x.c), vabsq_f32(x.d)}; }
inline float largest_lane(Lanes x) { return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.a, x.b), vmaxq_f32(x.c, x.d))); }
// By their bits: NaN is larger than infinity, and that than all else.
inline uint32x4_t larger_magnitude(float32x4_t x, float32x4_t y) {
  return vmaxq_u32(vreinterpretq_u32_f32(vabsq_f32(x)), vreinterpretq_u32_f32(vabsq_f32(y)));
}
inline Lanes larger_magnitude(Lanes x, Lanes y) {
  return {vreinterpretq_f32_u32(larger_magnitude(x.a, y.a)), vreinterpretq_f32_u32(larger_magnitude(x.b, y.b)),
          vreinterpretq_f32_u32(larger_magnitude(x.c, y.c)), vreinterpretq_f32_u32(larger_magnitude(x.d, y.d))};
}
// Lane i: the largest of v[i], which are magnitudes; of sixteen.
inline Lanes largest_of_each(const Lanes* v) {
  const auto one = [](Lanes x) { return vmaxq_u32(larger_magnitude(x.a, x.b), larger_magnitude(x.c, x.d)); };
  const auto four = [&](const Lanes* x) {
    return vreinterpretq_f32_u32(vpmaxq_u32(vpmaxq_u32(one(x[0]), one(x[1])), vpmaxq_u32(one(x[2]), one(x[3]))));
  };
  return {four(v), four(v + 4), four(v + 8), four(v + 12)};
}
inline int32_t byte_sum(const int8_t* p) { return vaddlvq_s8(vld1q_s8(p)); }  // of sixteen
inline Lanes set_from(const uint8_t* p) {
  float f;
  __builtin_memcpy(&f, p, 4);
  return set(f);
}
// Nearest integers of x * inverse, halves to even.
inline void to_bytes(Lanes x, float inverse, int8_t* out) {
  const Lanes shifted = fma(x, set(inverse), set(12582912.0f));
  const int16x8_t low = vuzp1q_s16(vreinterpretq_s16_f32(shifted.a), vreinterpretq_s16_f32(shifted.b));
  const int16x8_t high = vuzp1q_s16(vreinterpretq_s16_f32(shifted.c), vreinterpretq_s16_f32(shifted.d));
  vst1q_s8(out, vuzp1q_s8(vreinterpretq_s8_s16(low), vreinterpretq_s8_s16(high)));
}

constexpr int kSignedCodes = -1;
struct Quads { uint8x16_t a, b, c, d; };  // four codes of each of sixteen rows
inline Quads load_quads(const uint8_t* p) { return {vld1q_u8(p), vld1q_u8(p + 16), vld1q_u8(p + 32), vld1q_u8(p + 48)}; }
inline Quads masked(Quads x, int mask) {
  const uint8x16_t m = vdupq_n_u8(uint8_t(mask));
  return {x.a & m, x.b & m, x.c & m, x.d & m};
}
inline Quads either(Quads x, Quads y) { return {x.a | y.a, x.b | y.b, x.c | y.c, x.d | y.d}; }
inline Quads upper_nibbles(Quads x) { return {x.a >> 4, x.b >> 4, x.c >> 4, x.d >> 4}; }
// Left by n bits, right where n is below 0.
inline Quads moved(Quads x, int n) {
  if (n >= 0) return {x.a << n, x.b << n, x.c << n, x.d << n};
  return {x.a >> -n, x.b >> -n, x.c >> -n, x.d >> -n};
}
inline Quads looked_up(const int8_t* table, Quads index) {
  const uint8x16_t values = vreinterpretq_u8_s8(vld1q_s8(table));
  return {vqtbl1q_u8(values, index.a), vqtbl1q_u8(values, index.b), vqtbl1q_u8(values, index.c), vqtbl1q_u8(values, index.d)};
}
// Codes beyond 7 bits are multiplied as signed bytes, code - 128: sums then begin at 0.
template <int Most>
constexpr bool kBySign = Most > 127 || Most == kSignedCodes;
template <int Most>
inline Quads prepared(Quads codes) {
  if constexpr (Most > 127) return {codes.a ^ 0x80, codes.b ^ 0x80, codes.c ^ 0x80, codes.d ^ 0x80};
  return codes;
}

struct Sums { int32x4_t a, b, c, d; };  // of sixteen rows, or of the bursts
template <int Most>
inline Sums start_of(const uint8_t* at) {
  int32_t first = 0;
  if (at != nullptr && !kBySign<Most>) __builtin_memcpy(&first, at, 4);
  const int32x4_t all = vdupq_n_s32(first);
  return {all, all, all, all};
}
inline int8x16_t as_signed(uint8x16_t codes) { return vreinterpretq_s8_u8(codes); }

// Sums of sixteen rows: codes times one token's bytes. Codes: 0 ... Most, or signed bytes (kSignedCodes, kZero 128).
#ifdef __ARM_FEATURE_DOTPROD
struct Bytes4 {  // of one token, beside the codes of every row
  explicit Bytes4(const uint8_t* p) {
    float bytes;
    __builtin_memcpy(&bytes, p, 4);
    v = vreinterpret_s8_f32(vset_lane_f32(bytes, vdup_n_f32(0), 0));
  }
  int8x8_t v;
};
template <int Most>
struct Dots {
  Sums sum;
  inline void start(const uint8_t* at) { sum = start_of<Most>(at); }
  inline void add(const Quads& codes, const Bytes4& four, int) {
    sum = {vdotq_lane_s32(sum.a, as_signed(codes.a), four.v, 0), vdotq_lane_s32(sum.b, as_signed(codes.b), four.v, 0),
           vdotq_lane_s32(sum.c, as_signed(codes.c), four.v, 0), vdotq_lane_s32(sum.d, as_signed(codes.d), four.v, 0)};
  }
  inline Lanes lanes() { return from(sum.a, sum.b, sum.c, sum.d); }
};
inline int32x4_t burst_step(int32x4_t c, int8x16_t x, int8x16_t y) { return vdotq_s32(c, x, y); }
#else
struct Bytes4 {  // of one token, beside the codes of every row
  explicit Bytes4(const uint8_t* p) {
    int32_t bytes;
    __builtin_memcpy(&bytes, p, 4);
    v = vreinterpretq_s8_s32(vdupq_n_s32(bytes));
  }
  int8x16_t v;
};
// Products of four rows in int16 lanes, two to a row: as many groups as cannot overflow, then into int32 lanes.
struct Products {
  int16x8_t low, high;
  inline void set(int8x16_t x, int8x16_t y) { low = vmull_s8(vget_low_s8(x), vget_low_s8(y)), high = vmull_high_s8(x, y); }
  inline void add(int8x16_t x, int8x16_t y) {
    low = vmlal_s8(low, vget_low_s8(x), vget_low_s8(y)), high = vmlal_high_s8(high, x, y);
  }
  inline int32x4_t added_to(int32x4_t sum) const { return vpadalq_s16(sum, vpaddq_s16(low, high)); }
};
template <int Most>
struct Dots {
  static constexpr int kGroups = kBySign<Most> ? 1 : 32767 / (2 * 127 * Most);
  Sums sum;
  Products a, b, c, d;
  bool waiting;
  inline void start(const uint8_t* at) { sum = start_of<Most>(at), waiting = false; }
  inline void add(const Quads& codes, const Bytes4& four, int index) {
    if (waiting) {
      a.add(as_signed(codes.a), four.v), b.add(as_signed(codes.b), four.v);
      c.add(as_signed(codes.c), four.v), d.add(as_signed(codes.d), four.v);
    } else {
      a.set(as_signed(codes.a), four.v), b.set(as_signed(codes.b), four.v);
      c.set(as_signed(codes.c), four.v), d.set(as_signed(codes.d), four.v);
    }
    waiting = true;
    if ((index + 1) % kGroups == 0) flush();
  }
  inline void flush() {
    sum = {a.added_to(sum.a), b.added_to(sum.b), c.added_to(sum.c), d.added_to(sum.d)};
    waiting = false;
  }
  inline Lanes lanes() {
    if (waiting) flush();
    return from(sum.a, sum.b, sum.c, sum.d);
  }
};
inline int32x4_t burst_step(int32x4_t c, int8x16_t x, int8x16_t y) {
  __asm__("" : "+w"(x));  // else the product is loop-invariant
  Products p;
  p.set(x, y);
  return p.added_to(c);
}
#endif

using Bytes = Sums;
inline Bytes set_bytes(int x) {
  const int32x4_t all = vreinterpretq_s32_s8(vdupq_n_s8(int8_t(x)));
  return {all, all, all, all};
}
inline Bytes bytes_fma(Bytes c, Bytes x, Bytes y) {
  const int8x16_t p = vreinterpretq_s8_s32(x.a), q = vreinterpretq_s8_s32(y.a);
  return {burst_step(c.a, p, q), burst_step(c.b, p, q), burst_step(c.c, p, q), burst_step(c.d, p, q)};
}
inline float any_value(Bytes c) { return float(vaddvq_s32((c.a + c.b) + (c.c + c.d))); }

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
