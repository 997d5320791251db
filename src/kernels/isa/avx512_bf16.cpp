// Sixteen lanes of products of BF16 pairs: AVX-512 BF16.
// flags x86_64: -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c -mbmi2 -mprfchw -mprefer-vector-width=512 -mavx512bf16
// flags x86_64 GNU: -Wno-uninitialized -Wno-maybe-uninitialized
#define SONDE_ISA avx512_bf16
#include <immintrin.h>

#include "kernels/isa/lanes512.h"
#include "kernels/isa/pairs512.h"
#include "kernels/table.h"

namespace sonde::kernels::SONDE_ISA {
namespace {

constexpr int kPairQueries = 6, kPairVectors = 4;  // 24 accumulators, 4 + 1 operands

struct Pair { uint32_t both; };
struct Wide { __m512i v; };

inline Wide load_pairs(const uint32_t* p) { return {_mm512_loadu_si512(p)}; }
inline Wide load_pairs_part(const uint16_t* p, int64_t n) {  // n values, zeros beyond
  return {_mm512_maskz_loadu_epi16(__mmask32((uint64_t(1) << n) - 1), p)};
}
inline Wide splat(const Pair* p) { return {_mm512_set1_epi32(int(p->both))}; }
inline Wide first_of(Wide w) { return {_mm512_and_si512(w.v, _mm512_set1_epi32(0xFFFF))}; }
inline Lanes dot_pairs(Lanes acc, Wide a, Wide b) {
  return {_mm512_dpbf16_ps(acc.v, __builtin_bit_cast(__m512bh, a.v), __builtin_bit_cast(__m512bh, b.v))};
}
inline void store_pairs(Pair* p, Lanes x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), __builtin_bit_cast(__m256i, _mm512_cvtneps_pbh(x.v)));
}

// Products straight from the records (body/segment_direct.h).
struct Direct {
  static constexpr bool kUsed = true;
  static inline void beside(const uint16_t* a, const uint16_t* b, Wide (&out)[2]) {
    const Quarters q(a, b);
    out[0] = {q.first}, out[1] = {q.second};
  }
  // 32 columns into that order and back.
  static inline void as_beside(Lanes (&x)[2]) {
    const __m512 a = x[0].v, b = x[1].v;
    x[0].v = _mm512_shuffle_f32x4(a, b, 0x88), x[1].v = _mm512_shuffle_f32x4(a, b, 0xDD);
  }
  static inline void in_order(Lanes (&x)[2]) { quarters_in_order(x[0].v, x[1].v); }
};

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA

#include "kernels/body/tile.h"
// (in this order)
#include "kernels/body/exp.h"
#include "kernels/body/segment.h"
#include "kernels/body/silu.h"
#include "kernels/body/pairs.h"

namespace sonde::kernels::SONDE_ISA {
namespace {

int64_t pair_floats(int64_t, int64_t cols) { return pair_scratch(cols); }

int64_t bf16_burst(int64_t rounds, float* result) {
  constexpr int kChains = 12;
  __m512 c[kChains];
  for (int i = 0; i < kChains; ++i) c[i] = _mm512_set1_ps(*result + float(i));
  const __m512bh a = __builtin_bit_cast(__m512bh, _mm512_set1_epi32(0x3C003C00)), b = a;
  for (int64_t k = 0; k < rounds; ++k) {
    for (int i = 0; i < kChains; ++i) c[i] = _mm512_dpbf16_ps(c[i], a, b);
  }
  __m512 total = c[0];
  for (int i = 1; i < kChains; ++i) total = _mm512_add_ps(total, c[i]);
  *result = _mm512_cvtss_f32(total);
  return rounds * kChains * 64;
}

bool runs(const CpuFeatures& f) { return f.avx512_bf16; }
const KernelTable& table(const KernelTable* below, const CpuFeatures&) {
  static KernelTable made{};
  made = *below;
  made.name = "avx512_bf16";
  made.attention_segment = attention_segment, made.segment_scratch = segment_scratch;
  made.pair_parts = pair_parts, made.round_pairs = round_pairs, made.pairs = multiply_pairs_of, made.pair_scratch = pair_floats;
  made.bf16_burst = bf16_burst;
  return made;
}

}  // namespace
extern const InstructionSet kSet{"avx512_bf16", 40, runs, table};
}  // namespace sonde::kernels::SONDE_ISA
