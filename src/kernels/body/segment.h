// Attention over BF16 records, one segment of tokens at a time. Both products, queries by keys and weights by values, are
// the same small matrix product: pairs of BF16, 64 pairs deep, times a panel of 64 columns that stays in the first cache.
// Panels are made from the records once for all queries of a task: keys by turning 16 tokens round, values by laying two
// tokens side by side.
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

constexpr int64_t kPanelPairs = 64, kPanelColumns = 64;

constexpr int64_t rounded_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }
constexpr int64_t kPairFloats = int64_t(sizeof(Pair) / sizeof(float));

int64_t segment_scratch(const AttentionShape& s) {
  const int64_t zeros = s.key_dim > s.value_dim ? s.key_dim : s.value_dim;
  return kPanelPairs * kPanelColumns +                                                              // a panel
         kSegmentQueries * (rounded_up(s.key_dim, 32) / 2 + kSegment / 2) * kPairFloats +           // queries, weights
         kSegmentQueries * kSegment + rounded_up(zeros, 32);                                        // scores, zeros
}

// c[i][0 ... 64) (+)= sum over pairs k of a[i][k] . panel[k][0 ... 64); odd: and the first value of one more pair.
template <int T>
SONDE_INLINE void multiply_panel(const Pair* const (&a)[T], float* const (&c)[T], const uint32_t* panel, int64_t pairs,
                                 bool odd, bool add_to) {
  for (int v0 = 0; v0 < 4; v0 += kPairVectors) {
    Lanes acc[T][kPairVectors];
    for (int i = 0; i < T; ++i) {
      for (int v = 0; v < kPairVectors; ++v) acc[i][v] = add_to ? load(c[i] + 16 * (v0 + v)) : zero();
    }
    const uint32_t* at = panel + 16 * v0;
    for (int64_t k = 0; k < pairs; ++k, at += kPanelColumns) {
      Wide b[kPairVectors];
      for (int v = 0; v < kPairVectors; ++v) b[v] = load_pairs(at + 16 * v);
      for (int i = 0; i < T; ++i) {
        const Wide x = splat(a[i] + k);
        for (int v = 0; v < kPairVectors; ++v) acc[i][v] = dot_pairs(acc[i][v], x, b[v]);
      }
    }
    if (odd) {
      for (int i = 0; i < T; ++i) {
        const Wide x = splat(a[i] + pairs);
        for (int v = 0; v < kPairVectors; ++v) acc[i][v] = dot_pairs(acc[i][v], x, first_of(load_pairs(at + 16 * v)));
      }
    }
    for (int i = 0; i < T; ++i) {
      for (int v = 0; v < kPairVectors; ++v) store(c[i] + 16 * (v0 + v), acc[i][v]);
    }
  }
}

// panel[j][i] = values k + 2j, k + 2j + 1 of keys[i]; zeros from `dim` on.
void pack_keys(const uint16_t* const* keys, int64_t k, int64_t dim, int64_t pairs, uint32_t* panel) {
  for (int64_t j = 0; j < pairs; j += 16) {
    for (int64_t i = 0; i < kPanelColumns; i += 16) {
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

// Weights exp(x - largest) of n scores, in pairs; what lies behind them up to a multiple of 16 becomes 0.
SONDE_INLINE void weigh(float* x, int64_t n, Pair* weights, float* part) {
  const int64_t end = rounded_up(n, 16);
  for (int64_t j = n; j < end; ++j) x[j] = -__builtin_inff();
  Lanes most = load(x);
  for (int64_t j = 16; j < end; j += 16) most = larger(most, load(x + j));
  float lanes[16];
  store(lanes, most);
  float largest = lanes[0];
  for (int j = 1; j < 16; ++j) largest = lanes[j] > largest ? lanes[j] : largest;
  Lanes total = zero();
  for (int64_t j = 0; j < end; j += 16) {
    const Lanes e = exp_lanes(sub(load(x + j), set(largest)));
    total = add(total, e);
    store_pairs(weights + j / 2, e);
  }
  part[0] = largest, part[1] = sum(total);
}

void attention_segment(const AttentionTask& task, int64_t segment, float* part, float* scratch) {
  const AttentionShape& s = *task.shape;
  const int64_t count = task.row_count * task.head_count, start = segment * kSegment, ld = part_floats(s.value_dim);
  const int64_t dim_pairs = rounded_up(s.key_dim, 32) / 2, key_head = task.head * s.key_heads / s.heads;
  uint32_t* const panel = reinterpret_cast<uint32_t*>(scratch);
  Pair* const queries = reinterpret_cast<Pair*>(scratch + kPanelPairs * kPanelColumns);
  Pair* const weights = queries + kSegmentQueries * dim_pairs;
  float* const scores = reinterpret_cast<float*>(weights + kSegmentQueries * (kSegment / 2));
  uint16_t* const zeros = reinterpret_cast<uint16_t*>(scores + kSegmentQueries * kSegment);

  // The queries that see anything here, and how many tokens of it.
  int64_t actives = 0, longest = 0, seen[kSegmentQueries];
  float* parts[kSegmentQueries];
  for (int64_t i = 0; i < count; ++i) {
    const AttentionRow& row = task.rows[i / task.head_count];
    const int64_t n = row.length - start < kSegment ? row.length - start : kSegment;
    if (n <= 0) continue;
    const float* q = row.q + (task.head + i % task.head_count) * s.key_dim;
    Pair* const to = queries + actives * dim_pairs;
    for (int64_t k = 0; k < 2 * dim_pairs; k += 16) {
      const int64_t left = s.key_dim - k;
      store_pairs(to + k / 2, mul(left >= 16 ? load(q + k) : left > 0 ? load_part(q + k, left) : zero(), set(s.scale)));
    }
    parts[actives] = part + i * ld, seen[actives++] = n;
    if (n > longest) longest = n;
  }
  if (actives == 0) return;

  const uint16_t *keys[kSegment], *values[kSegment];
  const AttentionRow& first_row = task.rows[0];
  int64_t page = start / s.page_tokens, slot = start % s.page_tokens;
  for (int64_t j = 0; j < longest; ++j) {
    const uint16_t* record = reinterpret_cast<const uint16_t*>(first_row.pages[page]) + slot * s.record;
    keys[j] = record + s.key_offset + key_head * s.key_stride;
    values[j] = record + s.value_offset + key_head * s.value_stride;
    if (++slot == s.page_tokens) slot = 0, ++page;
  }
  for (int64_t k = 0; k < rounded_up(s.key_dim > s.value_dim ? s.key_dim : s.value_dim, 32); ++k) zeros[k] = 0;
  for (int64_t j = longest; j < rounded_up(longest, kPanelColumns); ++j) keys[j] = values[j] = zeros;

  // f<T>(first query) for tiles of T queries.
  const int64_t tiles = (actives + kPairQueries - 1) / kPairQueries;
  const auto each_tile = [&](auto&& f) __attribute__((always_inline)) {
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t a = actives * t / tiles, b = actives * (t + 1) / tiles;
      with_count<kPairQueries>(b - a, [&]<int T>() { f.template operator()<T>(a); });
    }
  };

  for (int64_t j = 0; j < longest; j += kPanelColumns) {
    for (int64_t k = 0; k < dim_pairs; k += kPanelPairs) {
      const int64_t pairs = dim_pairs - k < kPanelPairs ? dim_pairs - k : kPanelPairs;
      pack_keys(keys + j, 2 * k, s.key_dim, pairs, panel);
      each_tile([&]<int T>(int64_t q) {
        const Pair* a[T];
        float* c[T];
        bool any = false;
        for (int i = 0; i < T; ++i) {
          a[i] = queries + (q + i) * dim_pairs + k, c[i] = scores + (q + i) * kSegment + j;
          any = any || seen[q + i] > j;
        }
        if (any) multiply_panel<T>(a, c, panel, pairs, false, k > 0);
      });
    }
  }
  for (int64_t q = 0; q < actives; ++q) weigh(scores + q * kSegment, seen[q], weights + q * (kSegment / 2), parts[q]);

  for (int64_t d = 0; d < s.value_dim; d += kPanelColumns) {
    for (int64_t j = 0; j < longest; j += 2 * kPanelPairs) {
      const int64_t tokens = longest - j < 2 * kPanelPairs ? longest - j : 2 * kPanelPairs;
      pack_values(values + j, d, s.value_dim, (tokens + 1) / 2, panel);
      each_tile([&]<int T>(int64_t q) {
        const Pair* a[T];
        float* c[T];
        int64_t n[T], least = tokens, most = 0;
        for (int i = 0; i < T; ++i) {
          a[i] = weights + (q + i) * (kSegment / 2) + j / 2, c[i] = parts[q + i] + kPartHeader + d;
          n[i] = seen[q + i] - j < tokens ? seen[q + i] - j : tokens;
          if (n[i] < 0) n[i] = 0;
          if (n[i] < least) least = n[i];
          if (n[i] > most) most = n[i];
        }
        if (most == 0) return;
        const int64_t common = least / 2;
        if (least == most) return multiply_panel<T>(a, c, panel, common, least % 2 == 1, j > 0);
        multiply_panel<T>(a, c, panel, common, false, j > 0);
        for (int i = 0; i < T; ++i) {  // the ragged edge: a query never meets a value that it does not see
          const Pair* const one_a[1] = {a[i] + common};
          float* const one_c[1] = {c[i]};
          multiply_panel<1>(one_a, one_c, panel + common * kPanelColumns, n[i] / 2 - common, n[i] % 2 == 1, true);
        }
      });
    }
  }
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
