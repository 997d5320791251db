// y = x W^T over pairs of BF16 by matrix tiles: W as it is stored, x rounded to BF16. 32 columns are one product of tiles:
// W [16 rows][16 pairs] times x [16 pairs][T tokens] gives float [16][T], added to the sums of the columns before, in order.
// Within 32 columns the even ones are summed, and the odd ones (TDPBF16PS in Intel's manual, vol. 2); denormals count as
// zeros. One definition for every number of tokens; body/pairs.h adds in another order.
//
// x stands in tiles of equally many tokens T, zeros after the last; for every 32 columns [16 pairs][T][2].
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

constexpr int64_t kRoundedColumns = 512;    // of a tile that a thread rounds at once
constexpr int64_t kResidentPairs = 1 << 20;  // bytes of x that pass before the next rows of W, in the second-level cache
constexpr int64_t kAhead = 512;             // bytes of a row fetched ahead of their use

struct PairTiles {
  explicit PairTiles(int64_t m) : count((m + kTile - 1) / kTile), tokens((m + count - 1) / count) {}
  int64_t count, tokens;  // tiles, tokens of each: at most m + (m - 1) / 16 together
};

int64_t pair_part_count(const StripInput& in) {
  return PairTiles(in.m).count * ((in.cols + kRoundedColumns - 1) / kRoundedColumns);
}

SONDE_INLINE Run load_pair_run(const StripInput& in, int64_t token, int64_t k) {
  return load_run(row_of(in, token) + k, in.cols - k);
}

// out[pair][token] of columns [k, k + 32) and tokens [first, first + count), zeros beyond both.
void round_pair_tile(const StripInput& in, int64_t first, int64_t count, int64_t k, int64_t tokens, uint32_t* out) {
  alignas(64) uint16_t rows[kTile][32];
  const uint16_t* starts[kTile];
  for (int64_t t = 0; t < kTile; ++t) {
    starts[t] = rows[t];
    const Run x = t < count ? load_pair_run(in, first + t, k) : Run{zero(), zero()};
    store_bf16(rows[t], x.a), store_bf16(rows[t] + 16, x.b);
  }
  alignas(64) float pairs[16][kTile];
  transpose_pairs(starts, 0, reinterpret_cast<uint32_t*>(pairs), kTile);
  for (int j = 0; j < 16; ++j) store_part(reinterpret_cast<float*>(out) + j * tokens, load(pairs[j]), tokens);
}

void round_pair_parts(const StripInput& in, int64_t begin, int64_t end) {
  const PairTiles tiles(in.m);
  const int64_t parts = (in.cols + kRoundedColumns - 1) / kRoundedColumns, width = (in.cols + 31) / 32 * 32;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t first = i / parts * tiles.tokens, from = i % parts * kRoundedColumns;
    const int64_t to = width - from < kRoundedColumns ? width : from + kRoundedColumns;
    const int64_t left = in.m - first, count = left < tiles.tokens ? left : tiles.tokens;
    uint16_t* const out = reinterpret_cast<uint16_t*>(in.out) + first * width;
    for (int64_t k = from; k < to; k += 32) {
      uint16_t* const at = out + k * tiles.tokens;
      if (tiles.tokens > 1) {
        round_pair_tile(in, first, count, k, tiles.tokens, reinterpret_cast<uint32_t*>(at));
      } else {
        const Run x = load_pair_run(in, first, k);
        store_bf16(at, x.a), store_bf16(at + 16, x.b);
      }
    }
  }
}

// Numbers of tiles: of sums (those of the first rows and each tile of x, then of the second), x (two), W (two).
constexpr int kPairSums = 0, kPairX = 4, kPairW = 6;

TileShapes pair_shapes(int64_t tokens) {
  TileShapes s{};
  s.palette = 1;
  for (int i = 0; i < 8; ++i) s.rows[i] = kTile, s.row_bytes[i] = uint16_t(i < kPairW ? 4 * tokens : 64);
  return s;
}

// out [16][64] = `rows` rows of `bytes` bytes, zeros beyond: W ends there, or another row begins, of any values.
SONDE_INLINE void copy_rows(const uint8_t* w, int64_t stride, int64_t rows, int64_t bytes, uint8_t* out) {
  for (int64_t r = 0; r < kTile; ++r, out += 64) {
    store(reinterpret_cast<float*>(out), zero());
    if (r < rows) __builtin_memcpy(out, w + r * stride, std::size_t(bytes));
  }
}

// Calls f with the constants 0 ... N - 1.
template <int N, class F>
SONDE_INLINE void each_constant(F&& f) {
  if constexpr (N > 1) each_constant<N - 1>(f);
  f.template operator()<N - 1>();
}

// R times sixteen rows, or once fewer (kRest), and T tiles of x: each tile of W meets T of x, each of x R of W.
template <int R, int T, bool kRest>
struct PairBlock {
  const PairTask& t;
  int64_t row, rows, tokens, tile_bytes;  // the first row, rows where fewer than sixteen; of a tile of x

  SONDE_INLINE void add_products(const uint8_t* const (&w)[R], int64_t stride, const uint8_t* x) const {
    each_constant<T>([&]<int I>() __attribute__((always_inline)) {
      Tiles::load<kPairX + I>(x + I * tile_bytes, 4 * tokens);
    });
    each_constant<R>([&]<int I>() __attribute__((always_inline)) {
      Tiles::load<kPairW + I>(w[I], stride);
      each_constant<T>([&]<int J>() __attribute__((always_inline)) {
        Tiles::multiply_pairs<kPairSums + 2 * I + J, kPairW + I, kPairX + J>();
      });
    });
  }

  void add_columns(const uint8_t* x) const {
    const int64_t whole = t.cols / 32 * 64;  // bytes
    alignas(64) uint8_t copy[R][kTile * 64];
    const uint8_t *w[R], *copied[R];
    for (int r = 0; r < R; ++r) {
      w[r] = reinterpret_cast<const uint8_t*>(t.w) + (row + r * kTile) * t.row_bytes, copied[r] = copy[r];
    }
    each_constant<R>([&]<int I>() __attribute__((always_inline)) {
      each_constant<T>([&]<int J>() __attribute__((always_inline)) { Tiles::zero<kPairSums + 2 * I + J>(); });
    });
    for (int64_t k = 0; k < whole; k += 64, x += 64 * tokens) {
      if (T == 1 && !kRest && t.m <= kTile) {  // W comes from memory
        const int64_t ahead = k + kAhead;
        const uint8_t* const next = w[0] + (ahead < whole ? ahead : ahead - whole + R * kTile * t.row_bytes);
#pragma GCC unroll 8
        for (int r = 0; r < R * kTile; ++r) __builtin_prefetch(next + r * t.row_bytes);
      }
      if constexpr (kRest) {
        copy_rows(w[0] + k, t.row_bytes, rows, 64, copy[0]);
        add_products(copied, 64, x);
      } else {
        const uint8_t* at[R];
        for (int r = 0; r < R; ++r) at[r] = w[r] + k;
        add_products(at, t.row_bytes, x);
      }
    }
    if (2 * t.cols == whole) return;
    for (int r = 0; r < R; ++r) copy_rows(w[r] + whole, t.row_bytes, rows, 2 * t.cols - whole, copy[r]);
    add_products(copied, 64, x);
  }

  template <int I, int J>
  SONDE_INLINE void keep(int64_t token) const {
    alignas(64) float sums[kTile][16], turned[16][kTile];  // behind the tokens of a tile nothing is written or kept
    Tiles::store<kPairSums + 2 * I + J>(sums, 64);
    const uint16_t* starts[kTile];
    for (int r = 0; r < kTile; ++r) starts[r] = reinterpret_cast<const uint16_t*>(sums[r]);
    transpose_pairs(starts, 0, reinterpret_cast<uint32_t*>(turned), kTile);  // of 32 bits each
    const int64_t first = row + I * kTile, left = t.m - token, count = left < tokens ? left : tokens;
    for (int64_t i = 0; i < count; ++i) {
      const Lanes y = load(turned[i]), out = t.bias == nullptr ? y : add(y, load_part(t.bias + first, rows));
      store_part(t.y + (token + i) * t.ldy + first, out, rows);
    }
  }

  void multiply(int64_t tile) const {
    add_columns(reinterpret_cast<const uint8_t*>(t.x) + tile * tile_bytes);
    each_constant<R>([&]<int I>() __attribute__((always_inline)) {
      each_constant<T>([&]<int J>() __attribute__((always_inline)) { keep<I, J>((tile + J) * tokens); });
    });
  }
};

// Rows [begin, end), multiples of sixteen but for the last.
void multiply_pair_tiles(const PairTask& t, int64_t begin, int64_t end) {
  const PairTiles x(t.m);
  const int64_t tile_bytes = (t.cols + 31) / 32 * 64 * x.tokens, fitting = kResidentPairs / tile_bytes / 2 * 2;
  const int64_t together = fitting < 2 ? 2 : fitting;
  const Tiles tiles(pair_shapes(x.tokens));
  for (int64_t first = 0; first < x.count; first += together) {
    const int64_t last = x.count - first < together ? x.count : first + together;
    for (int64_t next, row = begin; row < end; row = next) {
      const int64_t left = end - row;
      next = left >= 2 * kTile ? row + 2 * kTile : left >= kTile ? row + kTile : end;
      const auto pass = [&]<int R, bool kRest>() {
        const int64_t rows = kRest ? left : kTile;
        int64_t tile = first;
        for (; tile + 2 <= last; tile += 2) PairBlock<R, 2, kRest>{t, row, rows, x.tokens, tile_bytes}.multiply(tile);
        if (tile < last) PairBlock<R, 1, kRest>{t, row, rows, x.tokens, tile_bytes}.multiply(tile);
      };
      if (left >= 2 * kTile) pass.template operator()<2, false>();
      else if (left >= kTile) pass.template operator()<1, false>();
      else pass.template operator()<1, true>();
    }
  }
}

// --- the table --------------------------------------------------------------------------------------------------
void take_pairs(KernelTable& table) {
  table.pair_parts = pair_part_count, table.round_pairs = round_pair_parts, table.pairs = multiply_pair_tiles;
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
