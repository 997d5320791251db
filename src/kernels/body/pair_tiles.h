// y = x W^T over pairs of BF16 by matrix tiles: x rounded to BF16, W as body/pair_weights.h lays it out. 32 columns are one
// product of tiles: x [T tokens][32] times W [16 pairs][16 rows][2] gives float [T][16], added to the sums of the columns
// before, in order. Within 32 columns the even ones are summed, and the odd ones (TDPBF16PS in Intel's manual, vol. 2);
// denormals count as zeros. One definition for every number of tokens; body/pairs.h adds in another order.
//
// x stands in tiles of equally many tokens T, zeros after the last; for every 32 columns [T][32].
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

constexpr int64_t kRoundedColumns = 512;  // of a tile that a thread rounds at once
constexpr int64_t kSpan = 256;            // columns of W that are laid out at once: two strips are 16 KiB
constexpr int64_t kGroupTiles = 32;       // of x that pass before the next rows of W: a span of them is 256 KiB
constexpr int64_t kGroupPairs = 8;        // of strips that meet a span of x before the next
constexpr int64_t kSmallInput = 768 << 10;  // bytes of x that stay in the second-level cache: strips come one after another

struct PairTiles {
  explicit PairTiles(int64_t m) : count((m + kTile - 1) / kTile), tokens((m + count - 1) / count) {}
  int64_t count, tokens;  // tiles, tokens of each: at most m + (m - 1) / 16 together
};

int64_t pair_part_count(const StripInput& in) {
  return PairTiles(in.m).count * ((in.cols + kRoundedColumns - 1) / kRoundedColumns);
}

void round_pair_parts(const StripInput& in, int64_t begin, int64_t end) {
  const PairTiles tiles(in.m);
  const int64_t parts = (in.cols + kRoundedColumns - 1) / kRoundedColumns, width = rounded_up(in.cols, 32);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t first = i / parts * tiles.tokens, from = i % parts * kRoundedColumns;
    const int64_t to = width - from < kRoundedColumns ? width : from + kRoundedColumns;
    uint16_t* const out = reinterpret_cast<uint16_t*>(in.out) + first * width;
    for (int64_t t = 0; t < tiles.tokens; ++t) {
      const bool present = first + t < in.m;
      const float* const x = present ? row_of(in, first + t) : nullptr;
      for (int64_t k = from; k < to; k += 32) {
        const Run run = present ? load_run(x + k, in.cols - k) : Run{zero(), zero()};
        uint16_t* const at = out + k * tiles.tokens + 32 * t;
        store_bf16(at, run.a), store_bf16(at + 16, run.b);
      }
    }
  }
}

// Numbers of tiles: of sums (those of the first tile of x and each strip, then of the second), x (two), W (two).
constexpr int kPairSums = 0, kPairX = 4, kPairW = 6;

TileShapes pair_shapes(int64_t tokens) {
  TileShapes s{};
  s.palette = 1;
  for (int i = 0; i < 8; ++i) s.rows[i] = uint8_t(i < kPairW ? tokens : kTile), s.row_bytes[i] = 64;
  return s;
}

// Calls f with the constants 0 ... N - 1.
template <int N, class F>
SONDE_INLINE void each_constant(F&& f) {
  if constexpr (N > 1) each_constant<N - 1>(f);
  f.template operator()<N - 1>();
}

constexpr int64_t kLaidBytes = kSpan * 16 * 2;  // of a strip's span

// sums [X][2][tokens][16] += X tiles of x, whose bytes are `tile_bytes` apart, times S strips of W [S][steps][1 KiB]. Each
// tile of W meets X of x, each of x S of W.
template <int X, int S>
SONDE_INLINE void multiply_pair_block(const uint8_t* x, int64_t tile_bytes, const uint8_t* w, int64_t steps, int64_t tokens,
                                      bool first, float* sums) {
  const auto each_sum = [&](auto&& f) __attribute__((always_inline)) {
    each_constant<X>([&]<int I>() __attribute__((always_inline)) {
      each_constant<S>([&]<int J>() __attribute__((always_inline)) {
        f.template operator()<kPairSums + 2 * I + J>(sums + (2 * I + J) * tokens * 16);
      });
    });
  };
  if (first) each_sum([]<int N>(float*) __attribute__((always_inline)) { Tiles::zero<N>(); });
  else each_sum([]<int N>(const float* at) __attribute__((always_inline)) { Tiles::load_once<N>(at, 64); });
  for (int64_t k = 0; k < steps; ++k, x += tokens * 64, w += 1024) {
    each_constant<X>([&]<int I>() __attribute__((always_inline)) {
      Tiles::load_once<kPairX + I>(x + I * tile_bytes, 64);
      each_constant<S>([&]<int J>() __attribute__((always_inline)) {
        if constexpr (I == 0) Tiles::load<kPairW + J>(w + J * kLaidBytes, 64);
        Tiles::multiply_pairs<kPairSums + 2 * I + J, kPairX + I, kPairW + J>();
      });
    });
  }
  each_sum([]<int N>(float* at) __attribute__((always_inline)) { Tiles::store<N>(at, 64); });
}

// What is multiplied, W aside.
struct PairOutput {
  int64_t rows, cols;
  const std::byte* x;
  int64_t m;
  float* y;
  int64_t ldy;
  const float* bias;
};

int64_t pair_scratch(int64_t m) {
  const PairTiles tiles(m);
  return kGroupPairs * (tiles.count < kGroupTiles ? tiles.count : kGroupTiles) * tiles.tokens * 32;
}

// Pairs of strips that share what is loaded of x: two of W's that follow each other, or one of W's and the same of up's.
// `up`, null: none. sums: pair_scratch() floats.
template <class W>
struct PairStrips {
  const PairOutput& t;
  const W& w;
  const W* up;
  float* sums;
  PairTiles x;
  int64_t width, tile_bytes;

  PairStrips(const PairOutput& output, const W& weights, const W* ups, float* scratch)
      : t(output), w(weights), up(ups), sums(scratch), x(output.m), width(rounded_up(output.cols, 32)),
        tile_bytes(width * 2 * x.tokens) {}

  struct Pair {
    const W* of[2];
    int64_t strip[2];
    int count;
  };
  SONDE_INLINE Pair pair(int64_t begin, int64_t end, int64_t i) const {
    if (up != nullptr) return {{&w, up}, {begin + i, begin + i}, 2};
    const int64_t strip = begin + 2 * i;
    return {{&w, &w}, {strip, strip + 1}, strip + 1 < end ? 2 : 1};
  }

  // Strips [begin, end), at most kGroupPairs pairs of them, times the tiles [first, last).
  void multiply(int64_t begin, int64_t end, int64_t first, int64_t last) const {
    alignas(64) uint8_t laid[2 * kLaidBytes];
    const int64_t pairs = up != nullptr ? end - begin : (end - begin + 1) / 2;
    const int64_t pair_sums = (last - first) * x.tokens * 32;
    const int64_t together = (last - first) * tile_bytes <= kSmallInput ? 1 : pairs;
    for (int64_t from = 0; from < pairs; from += together) {
      for (int64_t k = 0; k < width; k += kSpan) {
        const int64_t steps = (width - k < kSpan ? width - k : kSpan) / 32;
        for (int64_t i = 0; i < together; ++i) {
          const Pair p = pair(begin, end, from + i);
          for (int s = 0; s < p.count; ++s) p.of[s]->lay(p.strip[s], k, steps, laid + s * kLaidBytes);
          float* to = sums + (from + i) * pair_sums;
          for (int64_t tile = first; tile < last; tile += 2, to += 2 * x.tokens * 32) {
            const int count = last - tile < 2 ? 1 : 2;
            if (together > 1) fetch_span(tile, count, k + kSpan, i, together);
            const uint8_t* const at = reinterpret_cast<const uint8_t*>(t.x) + tile * tile_bytes + k * 2 * x.tokens;
            const auto block = [&]<int X, int S>() __attribute__((always_inline)) {
              multiply_pair_block<X, S>(at, tile_bytes, laid, steps, x.tokens, k == 0, to);
            };
            if (count == 2) p.count == 2 ? block.template operator()<2, 2>() : block.template operator()<2, 1>();
            else p.count == 2 ? block.template operator()<1, 2>() : block.template operator()<1, 1>();
          }
        }
      }
    }
    for (int64_t tile = first; tile < last; ++tile) keep(tile, begin, end, sums + (tile - first) * x.tokens * 32, pair_sums);
  }

  // Part `part` of `parts` of the span of `count` tiles that begins at column k.
  SONDE_INLINE void fetch_span(int64_t tile, int count, int64_t k, int64_t part, int64_t parts) const {
    if (k >= width) return;
    const int64_t lines = (width - k < kSpan ? width - k : kSpan) / 32 * x.tokens;
    const uint8_t* at = reinterpret_cast<const uint8_t*>(t.x) + tile * tile_bytes + k * 2 * x.tokens;
    for (int i = 0; i < count; ++i, at += tile_bytes) {
      for (int64_t line = lines * part / parts; line < lines * (part + 1) / parts; ++line) __builtin_prefetch(at + 64 * line, 0, 2);
    }
  }

  // A tile's sums, a pair's `pair_sums` after those of the pair before. A token's rows are written in one run.
  void keep(int64_t tile, int64_t begin, int64_t end, float* from, int64_t pair_sums) const {
    const int64_t token = tile * x.tokens, left = t.m - token, tokens = left < x.tokens ? left : x.tokens;
    if (up != nullptr) {
      float* at = from;
      for (int64_t strip = begin; strip < end; ++strip, at += pair_sums) {
        fewer->silu_mul(at, at + x.tokens * 16, at, tokens * 16);
      }
    }
    for (int64_t i = 0; i < tokens; ++i) {
      const float* at = from + 16 * i;
      for (int64_t strip = begin; strip < end; ++strip) {
        const int64_t row = 16 * strip, rows = t.rows - row < 16 ? t.rows - row : 16;
        const bool second = up == nullptr && (strip - begin) % 2 == 1;
        const Lanes sum = load(at + (second ? x.tokens * 16 : 0));
        const Lanes out = t.bias == nullptr ? sum : add(sum, load_part(t.bias + row, rows));
        float* const to = t.y + (token + i) * t.ldy + row;
        rows == 16 ? store(to, out) : store_part(to, out, rows);
        if (up != nullptr || second) at += pair_sums;
      }
    }
  }
};

// Strips [begin, end).
template <class W>
void multiply_pair_strips(const PairOutput& t, const W& w, const W* up, int64_t begin, int64_t end, float* sums) {
  const PairStrips<W> product(t, w, up, sums);
  const Tiles tiles(pair_shapes(product.x.tokens));
  const int64_t strips = up != nullptr ? kGroupPairs : 2 * kGroupPairs;
  for (int64_t first = 0; first < product.x.count; first += kGroupTiles) {
    const int64_t last = product.x.count - first < kGroupTiles ? product.x.count : first + kGroupTiles;
    for (int64_t strip = begin; strip < end; strip += strips) {
      product.multiply(strip, end - strip < strips ? end : strip + strips, first, last);
    }
  }
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
