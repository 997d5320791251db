// AVX-512 with VNNI: four products of bytes a lane at once.
// flags x86_64: -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c -mbmi2 -mprfchw -mprefer-vector-width=512 -mavx512vnni
// flags x86_64 GNU: -Wno-uninitialized -Wno-maybe-uninitialized
#define SONDE_ISA avx512_vnni
#include "kernels/isa/avx512.h"
// (after Lanes)
#include "kernels/body/all.h"

namespace sonde::kernels::SONDE_ISA {
namespace {

inline Lanes inverse_above(Lanes a, float least, float numerator) {  // numerator / a; 0 where a is below `least`
  return {_mm512_maskz_div_ps(_mm512_cmp_ps_mask(a.v, _mm512_set1_ps(least), _CMP_GE_OQ), _mm512_set1_ps(numerator), a.v)};
}

// (code - zero) * scale + shift, rounded, + 128: bytes of sixteen rows, whose codes have six bits at most. Scale and shift
// come in 1/256 of a unit, and are whole numbers of these; products of 16 bits, two bytes of a row at a time.
struct Fold {
  __m512i scale, shift;
  inline Fold(Lanes s, Lanes b, int zero) {
    const __m512i factor = _mm512_cvtps_epi32(s.v), less = _mm512_mullo_epi32(factor, _mm512_set1_epi32(zero));
    scale = twice(factor);
    shift = twice(_mm512_sub_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(b.v), _mm512_set1_epi32(0x8080)), less));
  }
  static inline __m512i twice(__m512i a) { return _mm512_mask_blend_epi16(0xAAAAAAAA, a, _mm512_slli_epi32(a, 16)); }
  inline Quads of(Quads codes) const {
    const __m512i high = _mm512_set1_epi16(short(0xFF00));
    const __m512i even = _mm512_mullo_epi16(_mm512_andnot_si512(high, codes.v), scale);
    const __m512i odd = _mm512_mullo_epi16(_mm512_srli_epi16(codes.v, 8), scale);
    const __m512i low = _mm512_srli_epi16(_mm512_add_epi16(even, shift), 8);
    return {_mm512_ternarylogic_epi32(high, _mm512_add_epi16(odd, shift), low, 0xEA)};  // high & odd | low
  }
};

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA

// (after Fold)
#include "kernels/body/folded.h"

namespace sonde::kernels::SONDE_ISA {
namespace {

template <class Q>
constexpr StripType folding_type() {
  StripType type = strip_type<Q>();
  if constexpr (requires { typename Q::Strip; }) {
    if constexpr (folds<StripReader<Q>>) type.prompt = multiply_folded_strips<StripReader<Q>>;
  }
  return type;
}
constexpr StripType kFoldingTypes[] = {
#define SONDE_ROW(T) folding_type<q::T>(),
    SONDE_TYPES(SONDE_ROW)
#undef SONDE_ROW
};
constexpr KernelTable folding_table() {
  KernelTable table = kTable;
  table.strips = kFoldingTypes, table.prompt_scratch = folded_scratch;
  return table;
}
constexpr KernelTable kFoldingTable = folding_table();

bool runs(const CpuFeatures& f) { return f.avx512_vnni; }
const KernelTable& table(const KernelTable*, const CpuFeatures&) { return kFoldingTable; }

}  // namespace
extern const InstructionSet kSet{"avx512_vnni", 30, runs, table};
}  // namespace sonde::kernels::SONDE_ISA
