// y = x W^T over pairs of BF16: W as it is stored, F16 and F32 rounded, x rounded to BF16. Lane j of sixteen adds the products
// of pairs j, j + 16, ... in order; the lanes are summed as dot() does. One definition for every number of tokens.
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

constexpr int kPairRows = 4, kPairTokens = 6;        // 24 accumulators, 6 + 1 operands
constexpr int64_t kPairGroup = 24 * kPairTokens;     // tokens that pass before the rows of W while the caches hold them

int64_t pair_parts(const StripInput& in) { return in.m; }

// n values, then zeros up to a multiple of 32.
template <class V>
SONDE_INLINE void round_row(const V* x, int64_t n, uint16_t* out) {
  for (int64_t k = 0; k < rounded_up(n, 32); k += 16) {
    const int64_t left = n - k;
    store_pairs(reinterpret_cast<Pair*>(out + k), left >= 16 ? load(x + k) : left > 0 ? load_part(x + k, left) : zero());
  }
}

void round_pairs(const StripInput& in, int64_t begin, int64_t end) {
  const int64_t width = rounded_up(in.cols, 32);
  for (int64_t i = begin; i < end; ++i) round_row(row_of(in, i), in.cols, reinterpret_cast<uint16_t*>(in.out) + i * width);
}

// out[i][r] = token + i times row + r of w, which is laid out as t.w is.
template <int R, int T>
SONDE_INLINE void pair_sums(const PairTask& t, const std::byte* rows, int64_t row, int64_t token, float (&out)[T][R]) {
  const int64_t width = rounded_up(t.cols, 32), whole = t.cols / 32 * 32;
  const uint16_t *w[R], *x[T];
  for (int r = 0; r < R; ++r) w[r] = reinterpret_cast<const uint16_t*>(rows + (row + r) * t.row_bytes);
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
  reduce(tile, out);
}

template <int R, int T>
void pair_tile(const PairTask& t, int64_t row, int64_t token) {
  float out[T][R];
  pair_sums(t, t.w, row, token, out);
  if (t.up != nullptr) {
    float ups[T][R];
    pair_sums(t, t.up, row, token, ups);
    silu_mul(out[0], ups[0], out[0], R * T);
  }
  for (int i = 0; i < T; ++i) {
    for (int r = 0; r < R; ++r) t.y[(token + i) * t.ldy + row + r] = t.bias == nullptr ? out[i][r] : out[i][r] + t.bias[row + r];
  }
}

void multiply_stored_pairs(const PairTask& t, int64_t begin, int64_t end) {
  each_tile<kPairRows, kPairTokens>(begin, end, t.m, kPairGroup, [&]<int R, int T>(int64_t row, int64_t token) {
    pair_tile<R, T>(t, row, token);
  });
}

// A few rows at a time are rounded for the tokens that pass before them.
template <class V>
void multiply_rounded_pairs(const PairTask& t, int64_t begin, int64_t end, uint16_t* rounded) {
  const int64_t width = rounded_up(t.cols, 32);
  for (int64_t token = 0; token < t.m; token += kPairGroup) {
    for (int64_t row = begin; row < end; row += kStreamRows) {
      const int64_t rows = end - row < kStreamRows ? end - row : kStreamRows;
      const auto round = [&](const std::byte* w, uint16_t* out) {
        for (int64_t r = 0; r < rows; ++r) {
          round_row(reinterpret_cast<const V*>(w + (row + r) * t.row_bytes), t.cols, out + r * width);
        }
        return reinterpret_cast<const std::byte*>(out);
      };
      PairTask part = t;
      part.w = round(t.w, rounded), part.row_bytes = 2 * width;
      if (t.up != nullptr) part.up = round(t.up, rounded + kStreamRows * width);
      part.x += 2 * token * width, part.m = t.m - token < kPairGroup ? t.m - token : kPairGroup;
      part.y += token * t.ldy + row;
      if (t.bias != nullptr) part.bias += row;
      multiply_stored_pairs(part, 0, rows);
    }
  }
}

void multiply_pairs_of(const PairTask& t, int64_t begin, int64_t end, float* scratch) {
  uint16_t* const rounded = reinterpret_cast<uint16_t*>(scratch);
  if (t.stored == PairTask::kF16) return multiply_rounded_pairs<Half>(t, begin, end, rounded);
  if (t.stored == PairTask::kF32) return multiply_rounded_pairs<float>(t, begin, end, rounded);
  multiply_stored_pairs(t, begin, end);
}

// Floats: rows of W and of up as they are rounded.
int64_t pair_scratch(int64_t cols) { return kStreamRows * rounded_up(cols, 32); }

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
