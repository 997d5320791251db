// Sixteen lanes as an array: any machine, the same bits.
// flags any:
// flags aarch64: -O1
// (a measure for tests there: every such processor has NEON, and -O3 takes gcc minutes)
#define SONDE_ISA portable
#include "kernels/table.h"
#include "tensor/quant/all.h"

namespace sonde::kernels::SONDE_ISA {
namespace {

constexpr int kTileRows = 2, kTileTokens = 2;
constexpr int kFusedTokens = 1;
constexpr int kStripTokens = 2, kStripAlone = 2, kStripPair = 1;
constexpr int kStripRuns = 1;  // g++ 12 gets two strips of five bits at once wrong here (from -O1 on; clang 19 does not)
constexpr int fused_rows(int) { return 1; }

struct Half { uint16_t bits; };
struct Bfloat { uint16_t bits; };
struct Byte { uint8_t bits; };  // FP8 of numbers; loaded in units of kOfBytes
constexpr float kOfBytes = 1;

struct Lanes { float v[16]; };

inline Lanes zero() { return {}; }
inline Lanes set(float a) {
  Lanes r;
  for (float& v : r.v) v = a;
  return r;
}
inline Lanes load_part(const float* p, int64_t n) {
  Lanes r{};
  for (int64_t i = 0; i < n; ++i) r.v[i] = p[i];
  return r;
}
inline Lanes load_part(const Half* p, int64_t n) {
  Lanes r{};
  for (int64_t i = 0; i < n; ++i) r.v[i] = quant::SONDE_ISA::half_to_float(p[i].bits);
  return r;
}
inline Lanes load_part(const Bfloat* p, int64_t n) {
  Lanes r{};
  for (int64_t i = 0; i < n; ++i) r.v[i] = quant::SONDE_ISA::bfloat_to_float(p[i].bits);
  return r;
}
inline Lanes load_part(const Byte* p, int64_t n) {
  Lanes r{};
  quant::SONDE_ISA::F8_E4M3::unpack(reinterpret_cast<const std::byte*>(p), n, r.v);
  return r;
}
template <class T>
inline Lanes load(const T* p) { return load_part(p, 16); }
inline void store(float* p, const Lanes& a) { __builtin_memcpy(p, a.v, sizeof a.v); }
inline void store_part(float* p, const Lanes& a, int64_t n) { __builtin_memcpy(p, a.v, std::size_t(n) * 4); }

template <class F>
inline Lanes each(const Lanes& a, const Lanes& b, F f) {
  Lanes r;
  for (int i = 0; i < 16; ++i) r.v[i] = f(a.v[i], b.v[i]);
  return r;
}
inline Lanes add(const Lanes& a, const Lanes& b) { return each(a, b, [](float x, float y) { return x + y; }); }
inline Lanes sub(const Lanes& a, const Lanes& b) { return each(a, b, [](float x, float y) { return x - y; }); }
inline Lanes mul(const Lanes& a, const Lanes& b) { return each(a, b, [](float x, float y) { return x * y; }); }
inline Lanes div(const Lanes& a, const Lanes& b) { return each(a, b, [](float x, float y) { return x / y; }); }
// The second operand where either is NaN, as the x86 instructions do.
inline Lanes larger(const Lanes& a, const Lanes& b) { return each(a, b, [](float x, float y) { return x > y ? x : y; }); }
inline Lanes smaller(const Lanes& a, const Lanes& b) { return each(a, b, [](float x, float y) { return x < y ? x : y; }); }
// Bit i: a[i] >= b[i].
inline uint32_t at_least(const Lanes& a, const Lanes& b) {
  uint32_t bits = 0;
  for (int i = 0; i < 16; ++i) bits |= uint32_t(a.v[i] >= b.v[i]) << i;
  return bits;
}
inline Lanes fma(const Lanes& a, const Lanes& b, const Lanes& c) {
  Lanes r;
  for (int i = 0; i < 16; ++i) r.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]);
  return r;
}
inline float sum(const Lanes& a) {
  float t[8];
  for (int i = 0; i < 8; ++i) t[i] = a.v[i] + a.v[i + 8];
  for (int i = 0; i < 4; ++i) t[i] = t[i] + t[i + 4];
  return (t[0] + t[2]) + (t[1] + t[3]);
}
inline void sum4(const Lanes& a, const Lanes& b, const Lanes& c, const Lanes& d, float* out) {
  out[0] = sum(a), out[1] = sum(b), out[2] = sum(c), out[3] = sum(d);
}
// a * 2^n, where n is the integer in the low bits of n + 1.5 * 2^23.
inline Lanes times_power(const Lanes& a, const Lanes& shifted) {
  Lanes r;
  for (int i = 0; i < 16; ++i) {
    const int32_t n = __builtin_bit_cast(int32_t, shifted.v[i]) - 0x4B400000;
    const int32_t half = n >> 1, rest = int32_t(uint32_t(n) - uint32_t(half));
    const float f = __builtin_bit_cast(float, uint32_t(half + 127) << 23);
    const float g = __builtin_bit_cast(float, uint32_t(rest + 127) << 23);
    r.v[i] = a.v[i] * f * g;
  }
  return r;
}

inline Lanes from_codes(quant::SONDE_ISA::Codes codes) {
  Lanes r;
  for (int i = 0; i < 16; ++i) r.v[i] = float(codes[i]);
  return r;
}

inline Lanes low_lanes(quant::SONDE_ISA::UCodes q, const quant::SONDE_ISA::Affine& t) {
  return add(mul(from_codes(quant::SONDE_ISA::Codes(quant::SONDE_ISA::low_nibbles(q))), set(t.d)), set(t.m));
}
inline Lanes high_lanes(quant::SONDE_ISA::UCodes q, const quant::SONDE_ISA::Affine& t) {
  return add(mul(from_codes(quant::SONDE_ISA::Codes(quant::SONDE_ISA::high_nibbles(q))), set(t.d)), set(t.m));
}

// Pairs of BF16 as pairs of floats.
constexpr int kPairQueries = 2, kPairVectors = 1;

struct Direct { static constexpr bool kUsed = false; };
struct Pair { float first, second; };
struct Wide { Lanes first, second; };

inline Wide load_pairs(const uint32_t* p) {
  Wide w;
  for (int i = 0; i < 16; ++i) {
    w.first.v[i] = __builtin_bit_cast(float, p[i] << 16), w.second.v[i] = __builtin_bit_cast(float, p[i] & 0xFFFF0000u);
  }
  return w;
}
inline Wide splat(const Pair* p) { return {set(p->first), set(p->second)}; }
inline Wide first_of(const Wide& w) { return {w.first, zero()}; }
// The products are exact in F32: as good as fused, and no call of the mathematical library.
inline Lanes dot_pairs(const Lanes& acc, const Wide& a, const Wide& b) {
  return add(add(acc, mul(a.second, b.second)), mul(a.first, b.first));
}
inline void store_bf16(uint16_t* p, const Lanes& x) {
  for (int i = 0; i < 16; ++i) p[i] = quant::SONDE_ISA::float_to_bfloat(x.v[i]);
}
inline void store_pairs(Pair* p, const Lanes& x) {
  uint16_t b[16];
  store_bf16(b, x);
  for (int i = 0; i < 8; ++i) {
    p[i] = {quant::SONDE_ISA::bfloat_to_float(b[2 * i]), quant::SONDE_ISA::bfloat_to_float(b[2 * i + 1])};
  }
}
// out[j * stride + i] = values 2j and 2j + 1 of rows[i] from k on: 16 rows, 16 pairs.
inline void transpose_pairs(const uint16_t* const* rows, int64_t k, uint32_t* out, int64_t stride) {
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) {
      out[j * stride + i] = uint32_t(rows[i][k + 2 * j]) | uint32_t(rows[i][k + 2 * j + 1]) << 16;
    }
  }
}
// out[d] = a[d] and b[d], 64 of each.
inline void interleave_pairs(const uint16_t* a, const uint16_t* b, uint32_t* out) {
  for (int d = 0; d < 64; ++d) out[d] = uint32_t(a[d]) | uint32_t(b[d]) << 16;
}

struct Bytes { int32_t v[16]; };
inline Bytes set_bytes(int x) {
  Bytes r;
  for (int32_t& v : r.v) v = int32_t(0x01010101u * uint32_t(x));
  return r;
}
inline Bytes bytes_fma(const Bytes& c, const Bytes& a, const Bytes& b) {
  Bytes r;
  for (int i = 0; i < 16; ++i) {
    int32_t sum = c.v[i];
    for (int j = 0; j < 32; j += 8) sum += int32_t(uint8_t(a.v[i] >> j)) * int32_t(int8_t(b.v[i] >> j));
    r.v[i] = sum;
  }
  return r;
}
inline float any_value(const Bytes& c) { return float(c.v[0]); }

// --- integer products (body/strips.h) -------------------------------------------------------------------------------
inline Lanes magnitude(const Lanes& a) {
  Lanes r;
  for (int i = 0; i < 16; ++i) r.v[i] = __builtin_fabsf(a.v[i]);
  return r;
}
inline float largest_lane(const Lanes& a) {
  float m = a.v[0];
  for (float v : a.v) m = v > m ? v : m;
  return m;
}
// By their bits: NaN is larger than infinity, and that than all else.
inline uint32_t larger_bits(uint32_t a, uint32_t b) { return a > b ? a : b; }
inline uint32_t magnitude_bits(float x) { return __builtin_bit_cast(uint32_t, __builtin_fabsf(x)); }
inline Lanes larger_magnitude(const Lanes& a, const Lanes& b) {
  return each(a, b, [](float x, float y) { return __builtin_bit_cast(float, larger_bits(magnitude_bits(x), magnitude_bits(y))); });
}
// Lane i: the largest of v[i], which are magnitudes; of sixteen.
inline Lanes largest_of_each(const Lanes* v) {
  Lanes r;
  for (int i = 0; i < 16; ++i) {
    uint32_t most = 0;
    for (float x : v[i].v) most = larger_bits(most, magnitude_bits(x));
    r.v[i] = __builtin_bit_cast(float, most);
  }
  return r;
}
inline int32_t byte_sum(const int8_t* p) {  // of sixteen
  int32_t sum = 0;
  for (int i = 0; i < 16; ++i) sum += p[i];
  return sum;
}
inline Lanes set_from(const uint8_t* p) {
  float f;
  __builtin_memcpy(&f, p, 4);
  return set(f);
}
// Nearest integers of a * inverse, halves to even.
inline void to_bytes(const Lanes& a, float inverse, int8_t* out) {
  for (int i = 0; i < 16; ++i) {
    out[i] = int8_t(__builtin_bit_cast(uint32_t, __builtin_fmaf(a.v[i], inverse, 12582912.0f)));
  }
}

constexpr int kSignedCodes = -1;
struct Quads { uint8_t v[64]; };  // four codes of each of sixteen rows
inline Quads load_quads(const uint8_t* p) {
  Quads r;
  __builtin_memcpy(r.v, p, 64);
  return r;
}
inline Quads masked(Quads a, int mask) {
  for (uint8_t& v : a.v) v = uint8_t(v & mask);
  return a;
}
inline Quads either(Quads a, const Quads& b) {
  for (int i = 0; i < 64; ++i) a.v[i] = uint8_t(a.v[i] | b.v[i]);
  return a;
}
inline Quads upper_nibbles(Quads a) {
  for (uint8_t& v : a.v) v = uint8_t(v >> 4);
  return a;
}
inline Quads moved(Quads a, int n) {  // left by n bits, right where n is below 0
  for (uint8_t& v : a.v) v = uint8_t(n >= 0 ? v << n : v >> -n);
  return a;
}
inline Quads looked_up(const int8_t* table, Quads index) {
  for (uint8_t& v : index.v) v = uint8_t(table[v]);
  return index;
}

struct Bytes4 {  // of one token, beside the codes of every row
  explicit Bytes4(const uint8_t* p) { __builtin_memcpy(v, p, 4); }
  int8_t v[4];
};
// Sums of sixteen rows: codes times one token's bytes. Codes: 0 ... Most, or signed bytes (kSignedCodes, kZero 128).
template <int Most>
struct Dots {
  int32_t sum[16];
  inline void start(const uint8_t* at) {
    int32_t first = 0;
    if (at != nullptr && Most != kSignedCodes) __builtin_memcpy(&first, at, 4);
    for (int32_t& s : sum) s = first;
  }
  inline void add(const Quads& codes, const Bytes4& four, int) {
    for (int r = 0; r < 16; ++r) {
      for (int j = 0; j < 4; ++j) {
        const uint8_t code = codes.v[4 * r + j];
        sum[r] += (Most == kSignedCodes ? int(int8_t(code)) : int(code)) * int(four.v[j]);
      }
    }
  }
  inline Lanes lanes() const {
    Lanes r;
    for (int i = 0; i < 16; ++i) r.v[i] = float(sum[i]);
    return r;
  }
};
template <int Most>
inline const Quads& prepared(const Quads& codes) { return codes; }

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA

#include "kernels/body/all.h"

namespace sonde::kernels::portable {
namespace {
bool runs(const CpuFeatures&) { return true; }
const KernelTable& table(const KernelTable*, const CpuFeatures&) { return kTable; }
}  // namespace
extern const InstructionSet kSet{"portable", 0, runs, table};
}  // namespace sonde::kernels::portable
