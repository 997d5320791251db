// y = x W^T over pairs of BF16: W as it is stored, x rounded to BF16. Lane j of sixteen adds the products of pairs j, j + 16,
// ... in order; the lanes are summed as dot() does. One definition for every number of tokens.
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

constexpr int kPairRows = 4, kPairTokens = 6;        // 24 accumulators, 6 + 1 operands
constexpr int64_t kPairGroup = 24 * kPairTokens;     // tokens that pass before the rows of W while the caches hold them

int64_t pair_parts(const StripInput& in) { return in.m; }

// Values [0, n) of one token, then zeros up to a multiple of 32.
void round_pairs(const StripInput& in, int64_t begin, int64_t end) {
  const int64_t width = rounded_up(in.cols, 32);
  for (int64_t i = begin; i < end; ++i) {
    const float* const x = row_of(in, i);
    uint16_t* const out = reinterpret_cast<uint16_t*>(in.out) + i * width;
    for (int64_t k = 0; k < width; k += 16) {
      const int64_t left = in.cols - k;
      store_pairs(reinterpret_cast<Pair*>(out + k), left >= 16 ? load(x + k) : left > 0 ? load_part(x + k, left) : zero());
    }
  }
}

template <int R, int T>
void pair_tile(const PairTask& t, int64_t row, int64_t token) {
  const int64_t width = rounded_up(t.cols, 32), whole = t.cols / 32 * 32;
  const uint16_t *w[R], *x[T];
  for (int r = 0; r < R; ++r) w[r] = reinterpret_cast<const uint16_t*>(t.w + (row + r) * t.row_bytes);
  for (int i = 0; i < T; ++i) x[i] = reinterpret_cast<const uint16_t*>(t.x) + (token + i) * width;
  Tile<R, T> tile;
  clear(tile);
  const auto step = [&](int64_t k, auto&& weights) __attribute__((always_inline)) {
    Wide b[T];
    for (int i = 0; i < T; ++i) b[i] = load_pairs(reinterpret_cast<const uint32_t*>(x[i] + k));
    for (int r = 0; r < R; ++r) {
      const Wide a = weights(w[r] + k);
      for (int i = 0; i < T; ++i) tile.acc[r][i] = dot_pairs(tile.acc[r][i], a, b[i]);
    }
  };
  for (int64_t k = 0; k < whole; k += 32) {
    step(k, [](const uint16_t* p) { return load_pairs(reinterpret_cast<const uint32_t*>(p)); });
  }
  if (whole < t.cols) step(whole, [&](const uint16_t* p) { return load_pairs_part(p, t.cols - whole); });
  float out[T][R];
  reduce(tile, out);
  for (int i = 0; i < T; ++i) {
    for (int r = 0; r < R; ++r) t.y[(token + i) * t.ldy + row + r] = t.bias == nullptr ? out[i][r] : out[i][r] + t.bias[row + r];
  }
}

void multiply_pairs_of(const PairTask& t, int64_t begin, int64_t end) {
  each_tile<kPairRows, kPairTokens>(begin, end, t.m, kPairGroup, [&]<int R, int T>(int64_t row, int64_t token) {
    pair_tile<R, T>(t, row, token);
  });
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
