// Products of a segment by panels: 64 pairs deep, 64 columns wide, kept in the first cache. A panel is made from the
// records once for all queries of a task: keys by turning 16 tokens round, values by laying two tokens side by side.
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

// T rows of c, 64 columns (+)= sum over pairs k of a[k] . panel[k]; odd: and the first value of one more pair.
template <int T>
SONDE_APART void multiply_pairs(const Pair* a, int64_t lda, float* c, int64_t ldc, const uint32_t* panel, int64_t pairs,
                                bool odd, bool add_to, Ahead<1>& ahead) {
  for (int v0 = 0; v0 < 4; v0 += kPairVectors) {
    Lanes acc[T][kPairVectors];
    for (int i = 0; i < T; ++i) {
      for (int v = 0; v < kPairVectors; ++v) acc[i][v] = add_to ? load(c + i * ldc + 16 * (v0 + v)) : zero();
    }
    const uint32_t* at = panel + 16 * v0;
    for (int64_t k = 0; k < pairs; ++k, at += kPanelColumns) {
      Wide b[kPairVectors];
      for (int v = 0; v < kPairVectors; ++v) b[v] = load_pairs(at + 16 * v);
      call_lines(ahead, ahead.lines);
      for (int i = 0; i < T; ++i) {
        const auto x = splat(a + i * lda + k);
        for (int v = 0; v < kPairVectors; ++v) acc[i][v] = dot_pairs(acc[i][v], x, b[v]);
      }
    }
    if (odd) {
      for (int i = 0; i < T; ++i) {
        const auto x = splat(a + i * lda + pairs);
        for (int v = 0; v < kPairVectors; ++v) acc[i][v] = dot_pairs(acc[i][v], x, first_of(load_pairs(at + 16 * v)));
      }
    }
    for (int i = 0; i < T; ++i) {
      for (int v = 0; v < kPairVectors; ++v) store(c + i * ldc + 16 * (v0 + v), acc[i][v]);
    }
  }
}

constexpr int64_t kPackSteps = 4;  // steps of the multiplication that turning sixteen keys round takes, sixteen pairs

// panel[j][i] = values k + 2j, k + 2j + 1 of keys[i]; zeros from `dim` on.
void pack_keys(const uint16_t* const* keys, int64_t k, int64_t dim, int64_t pairs, uint32_t* panel, Ahead<1>& ahead) {
  for (int64_t j = 0; j < pairs; j += 16) {
    for (int64_t i = 0; i < kPanelColumns; i += 16) {
      call_lines(ahead, kPackSteps * ahead.lines);
      if (k + 2 * j + 32 <= dim) {
        transpose_pairs(keys + i, k + 2 * j, panel + j * kPanelColumns + i, kPanelColumns);
        continue;
      }
      for (int64_t row = 0; row < 16; ++row) {
        for (int64_t pair = 0; pair < 16; ++pair) {
          const int64_t at = k + 2 * (j + pair);
          const uint32_t first = at < dim ? keys[i + row][at] : 0, second = at + 1 < dim ? keys[i + row][at + 1] : 0;
          panel[(j + pair) * kPanelColumns + i + row] = first | second << 16;
        }
      }
    }
  }
}

// panel[j][i] = value d + i of tokens 2j and 2j + 1; zeros from `dim` on.
void pack_values(const uint16_t* const* values, int64_t d, int64_t dim, int64_t pairs, uint32_t* panel) {
  for (int64_t j = 0; j < pairs; ++j) {
    const uint16_t *a = values[2 * j] + d, *b = values[2 * j + 1] + d;
    if (d + kPanelColumns <= dim) {
      interleave_pairs(a, b, panel + j * kPanelColumns);
      continue;
    }
    for (int64_t i = 0; i < kPanelColumns; ++i) {
      panel[j * kPanelColumns + i] = d + i < dim ? uint32_t(a[i]) | uint32_t(b[i]) << 16 : 0;
    }
  }
}

constexpr int64_t panel_tiles(int64_t count) { return (count + kPairQueries - 1) / kPairQueries; }

// f<T>(first query) for tiles of T queries.
template <class F>
SONDE_INLINE void each_panel_tile(int64_t count, F&& f) {
  const int64_t tiles = panel_tiles(count);
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t a = count * t / tiles, b = count * (t + 1) / tiles;
    with_count<kPairQueries>(b - a, [&]<int T>() { f.template operator()<T>(a); });
  }
}

int64_t panel_key_steps(const Segment& g) {
  const int64_t turned = kPanelColumns / 16 * (g.dim_pairs / 16);
  return rounded_up(g.longest, kPanelColumns) / kPanelColumns * (g.dim_pairs * panel_tiles(g.count) + turned * kPackSteps);
}
int64_t panel_value_steps(const Segment& g) {
  return (g.value_dim + kPanelColumns - 1) / kPanelColumns * ((g.longest + 1) / 2) * panel_tiles(g.count);
}

void score_panels(Segment& g) {
  for (int64_t j = 0; j < g.longest; j += kPanelColumns) {
    for (int64_t k = 0; k < g.dim_pairs; k += kPanelPairs) {
      const int64_t pairs = g.dim_pairs - k < kPanelPairs ? g.dim_pairs - k : kPanelPairs;
      pack_keys(g.keys + j, 2 * k, g.key_dim, pairs, g.panel, g.ahead);
      each_panel_tile(g.count, [&]<int T>(int64_t q) {
        bool any = false;
        for (int i = 0; i < T; ++i) any = any || g.seen[q + i] > j;
        if (!any) return;
        multiply_pairs<T>(g.queries + q * g.dim_pairs + k, g.dim_pairs, g.scores + q * kSegment + j, kSegment, g.panel,
                          pairs, false, k > 0, g.ahead);
      });
    }
  }
}

void add_value_panels(Segment& g) {
  for (int64_t d = 0; d < g.value_dim; d += kPanelColumns) {
    for (int64_t j = 0; j < g.longest; j += 2 * kPanelPairs) {
      const int64_t tokens = g.longest - j < 2 * kPanelPairs ? g.longest - j : 2 * kPanelPairs;
      pack_values(g.values + j, d, g.value_dim, (tokens + 1) / 2, g.panel);
      each_panel_tile(g.count, [&]<int T>(int64_t q) {
        const Pair* const a = g.weights + q * kWeightPairs + j / 2;
        float* const c = g.sums + q * g.ld + d;
        int64_t n[T], least = tokens, most = 0;
        for (int i = 0; i < T; ++i) {
          n[i] = g.seen[q + i] - j < tokens ? g.seen[q + i] - j : tokens;
          if (n[i] < 0) n[i] = 0;
          if (n[i] < least) least = n[i];
          if (n[i] > most) most = n[i];
        }
        if (most == 0) return;
        const int64_t common = least / 2;
        const bool even = least == most;
        multiply_pairs<T>(a, kWeightPairs, c, g.ld, g.panel, common, even && least % 2 == 1, j > 0, g.ahead);
        for (int i = 0; i < T && !even; ++i) {  // the ragged edge: a query never meets a value that it does not see
          multiply_pairs<1>(a + i * kWeightPairs + common, 0, c + i * g.ld, 0, g.panel + common * kPanelColumns,
                            n[i] / 2 - common, n[i] % 2 == 1, true, g.ahead);
        }
      });
    }
  }
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
