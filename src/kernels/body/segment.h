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

// Lines of rows that will be needed, in the order in which they are read: a few are called for in each step of the
// arithmetic, so that memory works meanwhile.
struct Ahead {
  struct Part {
    const uint16_t* const* rows;
    int64_t count, first, end;  // of rows; columns
  };
  static constexpr int kMost = 16;  // parts beyond come when they are read
  Part parts[kMost];
  int part_count = 0, part = 0;
  int64_t row = 0, at = 0;
  int64_t lines = 0;  // a step

  // The lines of the part.
  SONDE_INLINE int64_t add(const Part& p) {
    if (part_count == kMost || p.count <= 0) return 0;
    if (part_count == 0) at = p.first;
    parts[part_count++] = p;
    return p.count * ((p.end - p.first + 31) / 32);
  }
};
SONDE_INLINE void call_lines(Ahead& a, int64_t lines) {
  for (int64_t i = 0; i < lines && a.part < a.part_count; ++i) {
    const Ahead::Part& p = a.parts[a.part];
    __builtin_prefetch(p.rows[a.row] + a.at, 0, 2);
    if ((a.at += 32) < p.end) continue;
    a.at = p.first;
    if (++a.row < p.count) continue;
    a.row = 0;
    if (++a.part < a.part_count) a.at = a.parts[a.part].first;
  }
}

// T rows of c, 64 columns (+)= sum over pairs k of a[k] . panel[k]; odd: and the first value of one more pair.
template <int T>
SONDE_INLINE void multiply_pairs(const Pair* a, int64_t lda, float* c, int64_t ldc, const uint32_t* panel, int64_t pairs,
                                 bool odd, bool add_to, Ahead& ahead) {
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

// e^x for x <= 0, to be rounded to BF16: within 2^-18, 0 below -104, NaN for NaN.
SONDE_INLINE Lanes weight_lanes(Lanes x) {
  x = larger(set(-104.0f), x);  // the operand that may be NaN stands last
  const Lanes magic = set(12582912.0f), shifted = fma(x, set(1.44269504f), magic), n = sub(shifted, magic);
  const Lanes r = fma(n, set(-0.693147181f), x);
  Lanes p = fma(set(1.0f / 120), r, set(1.0f / 24));
  p = fma(p, r, set(1.0f / 6));
  p = fma(p, r, set(0.5f));
  p = fma(p, r, set(1.0f));
  p = fma(p, r, set(1.0f));
  return times_power(p, shifted);
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
    const Lanes e = weight_lanes(sub(load(x + j), set(largest)));
    total = add(total, e);
    store_pairs(weights + j / 2, e);
  }
  part[0] = largest, part[1] = sum(total);
}

// The task's queries, scaled, in pairs: [queries][dim_pairs].
void pack_queries(const AttentionTask& task, int64_t dim_pairs, Pair* queries) {
  const AttentionShape& s = *task.shape;
  for (int64_t i = 0; i < task.row_count * task.head_count; ++i, queries += dim_pairs) {
    const float* q = task.rows[i / task.head_count].q + (task.head + i % task.head_count) * s.key_dim;
    for (int64_t k = 0; k < 2 * dim_pairs; k += 16) {
      const int64_t left = s.key_dim - k;
      const Lanes x = left >= 16 ? load(q + k) : left > 0 ? load_part(q + k, left) : zero();
      store_pairs(queries + k / 2, mul(x, set(s.scale)));
    }
  }
}

void attention_segment(const AttentionTask& task, int64_t segment, bool same_task, float* part, float* scratch) {
  const AttentionShape& s = *task.shape;
  const int64_t count = task.row_count * task.head_count, start = segment * kSegment, ld = part_floats(s.value_dim);
  const int64_t dim_pairs = rounded_up(s.key_dim, 32) / 2, key_head = task.head * s.key_heads / s.heads;
  constexpr int64_t kWeightPairs = kSegment / 2;
  uint32_t* const panel = reinterpret_cast<uint32_t*>(scratch);
  Pair* const queries = reinterpret_cast<Pair*>(scratch + kPanelPairs * kPanelColumns);
  Pair* const weights = queries + kSegmentQueries * dim_pairs;
  float* const scores = reinterpret_cast<float*>(weights + kSegmentQueries * kWeightPairs);
  uint16_t* const zeros = reinterpret_cast<uint16_t*>(scores + kSegmentQueries * kSegment);

  int64_t longest = 0, most_tokens = 0, seen[kSegmentQueries];  // tokens of the segment that each query sees
  for (int64_t i = 0; i < count; ++i) {
    const int64_t tokens = task.rows[i / task.head_count].length, n = tokens - start;
    if (tokens > most_tokens) most_tokens = tokens;
    seen[i] = n < 0 ? 0 : n < kSegment ? n : kSegment;
    if (seen[i] > longest) longest = seen[i];
  }
  if (longest == 0) return;

  const uint16_t *keys[kSegment], *values[kSegment], *next[kPanelColumns];
  int64_t page = start / s.page_tokens, slot = start % s.page_tokens;
  const auto each_record = [&](int64_t tokens, auto&& f) __attribute__((always_inline)) {
    for (int64_t j = 0; j < tokens; ++j) {
      f(j, reinterpret_cast<const uint16_t*>(task.rows[0].pages[page]) + slot * s.record);
      if (++slot == s.page_tokens) slot = 0, ++page;
    }
  };
  const int64_t to_key = s.key_offset + key_head * s.key_stride, to_value = s.value_offset + key_head * s.value_stride;
  each_record(longest, [&](int64_t j, const uint16_t* record) { keys[j] = record + to_key, values[j] = record + to_value; });
  const int64_t later = most_tokens - start - longest, next_count = later < kPanelColumns ? later : kPanelColumns;
  each_record(next_count, [&](int64_t j, const uint16_t* record) { next[j] = record + to_key; });
  const int64_t columns = rounded_up(longest, kPanelColumns);
  for (int64_t k = 0; k < rounded_up(s.key_dim > s.value_dim ? s.key_dim : s.value_dim, 32); ++k) zeros[k] = 0;
  for (int64_t j = longest; j < columns; ++j) keys[j] = values[j] = zeros;
  const int64_t tiles = (count + kPairQueries - 1) / kPairQueries;
  const bool apart = s.value_offset != s.key_offset;
  Ahead ahead;
  const int64_t called = !same_task ? 0 : longest < kPanelColumns ? longest : kPanelColumns;  // with the segment before
  int64_t lines = ahead.add({keys + called, longest - called, 0, s.key_dim}), later_lines = 0;
  for (int64_t d = 0; d < s.value_dim && apart; d += kPanelColumns) {
    later_lines += ahead.add({values, longest, d, d + kPanelColumns < s.value_dim ? d + kPanelColumns : s.value_dim});
  }
  later_lines += ahead.add({next, next_count, 0, s.key_dim});
  const int64_t panels = (s.value_dim + kPanelColumns - 1) / kPanelColumns;
  int64_t steps = columns / kPanelColumns * dim_pairs * tiles, later_steps = panels * ((longest + 1) / 2) * tiles;
  if (apart) lines = later_lines += lines, steps = later_steps += steps;  // evenly; else the keys bring the values
  ahead.lines = (lines + steps - 1) / steps;
  if (!same_task) call_lines(ahead, kPanelColumns * ((s.key_dim + 31) / 32));
  if (!same_task) pack_queries(task, dim_pairs, queries);

  // f<T>(first query) for tiles of T queries.
  const auto each_tile = [&](auto&& f) __attribute__((always_inline)) {
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t a = count * t / tiles, b = count * (t + 1) / tiles;
      with_count<kPairQueries>(b - a, [&]<int T>() { f.template operator()<T>(a); });
    }
  };

  for (int64_t j = 0; j < columns; j += kPanelColumns) {
    for (int64_t k = 0; k < dim_pairs; k += kPanelPairs) {
      const int64_t pairs = dim_pairs - k < kPanelPairs ? dim_pairs - k : kPanelPairs;
      pack_keys(keys + j, 2 * k, s.key_dim, pairs, panel);
      each_tile([&]<int T>(int64_t q) {
        bool any = false;
        for (int i = 0; i < T; ++i) any = any || seen[q + i] > j;
        if (!any) return;
        multiply_pairs<T>(queries + q * dim_pairs + k, dim_pairs, scores + q * kSegment + j, kSegment, panel, pairs, false,
                          k > 0, ahead);
      });
    }
  }
  for (int64_t q = 0; q < count; ++q) {
    if (seen[q] > 0) weigh(scores + q * kSegment, seen[q], weights + q * kWeightPairs, part + q * ld);
  }

  ahead.lines = (later_lines + later_steps - 1) / later_steps;
  for (int64_t d = 0; d < s.value_dim; d += kPanelColumns) {
    for (int64_t j = 0; j < longest; j += 2 * kPanelPairs) {
      const int64_t tokens = longest - j < 2 * kPanelPairs ? longest - j : 2 * kPanelPairs;
      pack_values(values + j, d, s.value_dim, (tokens + 1) / 2, panel);
      each_tile([&]<int T>(int64_t q) {
        const Pair* const a = weights + q * kWeightPairs + j / 2;
        float* const c = part + q * ld + kPartHeader + d;
        int64_t n[T], least = tokens, most = 0;
        for (int i = 0; i < T; ++i) {
          n[i] = seen[q + i] - j < tokens ? seen[q + i] - j : tokens;
          if (n[i] < 0) n[i] = 0;
          if (n[i] < least) least = n[i];
          if (n[i] > most) most = n[i];
        }
        if (most == 0) return;
        const int64_t common = least / 2;
        const bool even = least == most;
        multiply_pairs<T>(a, kWeightPairs, c, ld, panel, common, even && least % 2 == 1, j > 0, ahead);
        for (int i = 0; i < T && !even; ++i) {  // the ragged edge: a query never meets a value that it does not see
          multiply_pairs<1>(a + i * kWeightPairs + common, 0, c + i * ld, 0, panel + common * kPanelColumns,
                            n[i] / 2 - common, n[i] % 2 == 1, true, ahead);
        }
      });
    }
  }
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
