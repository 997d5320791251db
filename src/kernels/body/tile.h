// The register tile: R rows times T tokens, sixteen lanes along k. Products of floats and of BF16 pairs go through it.
#pragma once

#include "kernels/body/inline.h"

namespace sonde::kernels::SONDE_ISA {
namespace {

template <int R, int T>
struct Tile {
  Lanes acc[R][T];
};

template <int R, int T>
SONDE_INLINE void clear(Tile<R, T>& t) {
  for (int r = 0; r < R; ++r) {
    for (int i = 0; i < T; ++i) t.acc[r][i] = zero();
  }
}

// acc[r][i] += w[r][0 ... n) . x[i][0 ... n), lane by lane.
template <int R, int T, class W>
SONDE_INLINE void accumulate(Tile<R, T>& t, const W* const (&w)[R], const float* const (&x)[T], int64_t n) {
  int64_t k = 0;
  Tile<R, T> sums = t;
  for (; k + 16 <= n; k += 16) {
    Lanes b[T];
    for (int i = 0; i < T; ++i) b[i] = load(x[i] + k);
    for (int r = 0; r < R; ++r) {
      const Lanes a = load(w[r] + k);
      for (int i = 0; i < T; ++i) sums.acc[r][i] = fma(a, b[i], sums.acc[r][i]);
    }
  }
  t = sums;
  if (k < n) {
    for (int r = 0; r < R; ++r) {
      const Lanes a = load_part(w[r] + k, n - k);
      for (int i = 0; i < T; ++i) t.acc[r][i] = fma(a, load_part(x[i] + k, n - k), t.acc[r][i]);
    }
  }
}

// Sums of the lanes: out[i][r].
template <int R, int T>
SONDE_INLINE void reduce(const Tile<R, T>& t, float (&out)[T][R]) {
  for (int i = 0; i < T; ++i) {
    int r = 0;
    for (; r + 4 <= R; r += 4) sum4(t.acc[r][i], t.acc[r + 1][i], t.acc[r + 2][i], t.acc[r + 3][i], &out[i][r]);
    for (; r < R; ++r) out[i][r] = sum(t.acc[r][i]);
  }
}

constexpr int kStreamRows = 4;

// f<R, T>(row, token) for rows [begin, end) of W and tokens [0, m): tiles of Rows x Tokens at most, of one row where there
// are few tokens, so that memory is read in one long run. `group` tokens pass before the next four rows: their part of x
// stays in the caches meanwhile.
template <int Rows, int Tokens, class F>
SONDE_INLINE void each_tile(int64_t begin, int64_t end, int64_t m, int64_t group, F&& f) {
  for (int64_t first = 0; first < m; first += group) {
    const int64_t tokens = m - first < group ? m - first : group, tiles = (tokens + Tokens - 1) / Tokens;
    for (int64_t next, r = begin; r < end; r = next) {
      next = r + kStreamRows <= end ? r + kStreamRows : r + 1;
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t a = tokens * tile / tiles, b = tokens * (tile + 1) / tiles;
        with_count<Tokens>(b - a, [&]<int T>() {
          constexpr int R = T <= 2 ? 1 : Rows;
          static_assert(kStreamRows % R == 0);
          if (next - r == 1) return f.template operator()<1, T>(r, first + a);
          for (int64_t row = r; row < next; row += R) f.template operator()<R, T>(row, first + a);
        });
      }
    }
  }
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
