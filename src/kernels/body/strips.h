// y = x W^T in integers: W in strips of sixteen rows (tensor/quant/strip.h), x rounded to signed bytes with a scale for
// every 32. Lane r of an accumulator is row r of the strip. One definition for every number of tokens:
//   acc = fma(float(sum of codes * bytes), d * sub-scale * x-scale, acc), then, where there is a minimum,
//   acc = fma(m * sub-min, x-scale * sum of bytes, acc), for the runs (halves of runs) of 32 columns in order.
//
// x stands in tiles of T tokens; for every 32 columns: bytes [T][32], scales float [T],
// then for each half [T] what stands for codes' zero: int32 -zero * sum of bytes, or, where there is a minimum, float
// x-scale * sum.
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

namespace q = quant::SONDE_ISA;

constexpr int64_t run_bytes(int64_t tokens, int halves) { return tokens * (36 + 4 * halves); }

// m tokens in tiles of at most kStripTokens, evenly, or in one of kStripAlone: tile i holds [tile_start(m, i),
// tile_start(m, i + 1)).
SONDE_INLINE int64_t tile_count(int64_t m) { return m <= kStripAlone ? 1 : (m + kStripTokens - 1) / kStripTokens; }
SONDE_INLINE int64_t tile_start(int64_t m, int64_t i) { return m * i / tile_count(m); }

struct Run { Lanes a, b; };
// The first n of 32 values, then zeros; n may be more.
template <class V>
SONDE_INLINE Run load_run(const V* x, int64_t n) {
  if (n >= 32) return {load(x), load(x + 16)};
  return n > 16 ? Run{load(x), load_part(x + 16, n - 16)} : Run{load_part(x, n), zero()};
}

// The scales of sixteen runs of x and what their bytes are multiplied by; `largest`: the magnitudes of each run.
struct RunScales {
  float scale[16], inverse[16];
  SONDE_INLINE explicit RunScales(const Lanes* largest) {
    const Lanes most = largest_of_each(largest), s = div(most, set(127.0f));
    store(inverse, div(set(1.0f), s));
    store(scale, add(s, mul(most, zero())));  // what is not finite makes the scale NaN
  }
};

// Bytes of T tokens, columns [0, cols).
SONDE_INLINE void round_tile(const StripInput& in, int64_t first, int64_t T, uint8_t* out) {
  const int64_t run = run_bytes(T, in.halves);
  for (int64_t k = 0; k < in.cols; k += 16 * 32, out += 16 * run) {
    const int64_t cols = in.cols - k < 16 * 32 ? in.cols - k : 16 * 32, runs = (cols + 31) / 32;
    for (int64_t t = 0; t < T; ++t) {
      const float* const x = row_of(in, first + t) + k;
      Lanes largest[16];
      for (int64_t r = 0; r < runs; ++r) {
        const Run values = load_run(x + 32 * r, cols - 32 * r);
        largest[r] = larger_magnitude(values.a, values.b);
      }
      for (int64_t r = runs; r < 16; ++r) largest[r] = zero();
      const RunScales scales(largest);
      uint8_t* to = out;
      for (int64_t r = 0; r < runs; ++r, to += run) {
        const float scale = scales.scale[r], inverse = scale > 0 ? scales.inverse[r] : 0.0f;
        int8_t* const codes = reinterpret_cast<int8_t*>(to) + 32 * t;
        const Run values = load_run(x + 32 * r, cols - 32 * r);
        to_bytes(values.a, inverse, codes), to_bytes(values.b, inverse, codes + 16);
        const int32_t halves[2] = {byte_sum(codes), byte_sum(codes + 16)};
        __builtin_memcpy(to + 32 * T + 4 * t, &scale, 4);
        for (int h = 0; h < in.halves; ++h) {
          const int32_t total = in.halves == 2 ? halves[h] : halves[0] + halves[1];
          const int32_t start = -in.zero * total;
          const float shift = scale * float(total);
          uint8_t* at = to + 36 * T + 4 * (h * T + t);
          if (in.min) __builtin_memcpy(at, &shift, 4);
          else __builtin_memcpy(at, &start, 4);
        }
      }
    }
  }
}

// Group g of a run's codes, as bytes to multiply: below 2^bits, or the table's values where there is one.
template <class Q>
SONDE_INLINE Quads group_codes(const uint8_t* run, int g) {
  using S = typename Q::Strip;
  if constexpr (S::kBits == 8) {
    return load_quads(run + 64 * g);
  } else {
    const Quads both = load_quads(run + 64 * (g / 2));
    Quads codes = g % 2 == 0 ? masked(both, 0x0F) : upper_nibbles(both);
    if constexpr (S::kHasTable) codes = looked_up(S::kTable, codes);
    if constexpr (S::kBits == 5) codes = either(codes, masked(moved(load_quads(run + 256), 4 - g), 0x10));
    if constexpr (S::kBits == 6) codes = either(codes, masked(moved(load_quads(run + 256 + 64 * (g / 4)), 4 - 2 * (g % 4)), 0x30));
    return codes;
  }
}

SONDE_INLINE Lanes byte_lanes(const uint8_t* p) { return from_codes(q::Codes(q::load_codes(p))); }

// How multiply_strip() reads sixteen rows of type Q. A Block is what its runs of 32 columns share.
template <class Q>
struct StripReader {
  using S = typename Q::Strip;
  using L = q::StripLayout<Q>;
  static constexpr int kBytes = L::kBytes, kRuns = L::kRuns, kHalves = L::kHalves;
  static constexpr bool kMin = S::kMin;
  static constexpr int kZero = S::kZero;
  static constexpr int kMost = S::kHasTable ? kSignedCodes : (1 << S::kBits) - 1;
  static constexpr int kRunLines = (kBytes / kRuns + 63) / 64;  // cache lines, to fetch ahead

  struct Block {
    Lanes d, m;
  };
  static SONDE_INLINE Block block(const uint8_t* w) {
    Block b{zero(), zero()};
    if constexpr (S::kE8m0) {
      float d[16];
      for (int r = 0; r < 16; ++r) d[r] = q::half_e8m0(w[r]);
      b.d = load(d);
    } else {
      b.d = load(reinterpret_cast<const Half*>(w));
    }
    if constexpr (S::kMin) b.m = load(reinterpret_cast<const Half*>(w + L::kM));
    return b;
  }
  static SONDE_INLINE Lanes scale(const Block& b, const uint8_t* w, int run, int half) {
    if constexpr (S::kSub == 0) return b.d;
    return mul(b.d, byte_lanes(w + L::kScales + 16 * (run * kHalves + half)));
  }
  static SONDE_INLINE Lanes least(const Block& b, const uint8_t* w, int run) {
    if constexpr (S::kSub == 0) return b.m;
    return mul(b.m, byte_lanes(w + L::kMins + 16 * run));
  }
  // Groups g and g + 1 as they lie: the lower and the upper nibbles.
  static constexpr bool kNibbles = S::kBits == 4 && !S::kHasTable;
  static SONDE_INLINE Quads two_groups(const uint8_t* w, int run, int g) {
    return load_quads(w + L::kCodes + run * L::kRunBytes + 32 * g);
  }
  static SONDE_INLINE Quads group(const uint8_t* w, int run, int g) {
    return prepared<kMost>(group_codes<Q>(w + L::kCodes + run * L::kRunBytes, g));
  }
};

// Of types without strips (body/panels.h): sixteen rows, run by run of 32 columns 8 quads of bytes (a byte is the value +
// 128), then 16 scales (floats).
struct PanelReader {
  static constexpr int kBytes = 512 + 64, kRuns = 1, kHalves = 1, kZero = 128, kMost = 255, kRunLines = 0;
  static constexpr bool kMin = false;
  struct Block {};
  static SONDE_INLINE Block block(const uint8_t*) { return {}; }
  static SONDE_INLINE Lanes scale(const Block&, const uint8_t* w, int, int) { return load(reinterpret_cast<const float*>(w + 512)); }
  static SONDE_INLINE Quads group(const uint8_t* w, int, int g) { return prepared<kMost>(load_quads(w + 64 * g)); }
};

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
