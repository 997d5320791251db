// Products of a segment straight from the records, bit for bit those by panels. Keys: sixteen queries, turned round
// once for a task, are the lanes, and a pair of a key is spread over them as it is read. Values: two tokens are laid
// side by side in registers. Sets say with Direct::kUsed whether they have these.
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

constexpr int kDirectKeys = 8;          // 8 sums, each waiting for the one before: as many as are under way at once
constexpr int kDirectQueries = 12;      // 24 sums of values, 2 values, a weight
constexpr int64_t kDirectColumns = 32;  // of values
constexpr int64_t kDirectBlock = 64;    // keys that pass before one group of queries after another
constexpr int64_t kTurning = 5;         // queries that pass in the time that it takes to turn their keys round
constexpr int64_t kKeyStep = 16, kValueStep = 4;  // pairs, between calls for memory

// Where that is faster: lanes without a query cost less than turning keys round, and a key is long enough for the start
// and end of its sums not to count, or met once only.
template <class Forms>
constexpr bool scores_directly(int64_t count, int64_t key_dim) {
  if constexpr (!Forms::kUsed) return false;
  return key_dim % 32 == 0 && rounded_up(count, 16) - count < kTurning && (count <= 16 || key_dim >= 256);
}
template <class Forms>
constexpr bool adds_directly(int64_t value_dim) {
  return Forms::kUsed && value_dim % kDirectColumns == 0;
}

constexpr int64_t direct_tiles(int64_t count) { return (count + kDirectQueries - 1) / kDirectQueries; }
int64_t direct_key_steps(const Segment& g) {
  return (g.longest + kDirectKeys - 1) / kDirectKeys * (g.dim_pairs / kKeyStep) * ((g.count + 15) / 16);
}
int64_t direct_value_steps(const Segment& g) {
  return g.value_dim / kDirectColumns * ((g.longest / 2 + kValueStep - 1) / kValueStep) * direct_tiles(g.count);
}

// turned[group][k][i] = queries[16 * group + i][k]; behind the last query the last one again.
template <class Forms>
void turn_queries(const Pair* queries, int64_t count, int64_t dim_pairs, uint32_t* turned) {
  for (int64_t q = 0; q < count; q += 16, turned += 16 * dim_pairs) {
    const uint16_t* rows[16];
    for (int64_t i = 0; i < 16; ++i) {
      rows[i] = reinterpret_cast<const uint16_t*>(queries + (q + i < count ? q + i : count - 1) * dim_pairs);
    }
    for (int64_t k = 0; k < dim_pairs; k += 16) transpose_pairs(rows, 2 * k, turned + 16 * k, 16);
  }
}

// out[key][query]: sixteen queries by T keys.
template <int T>
SONDE_APART void score_keys(const uint16_t* const* keys, const uint32_t* turned, int64_t pairs, float* out,
                            Ahead<1>& ahead) {
  const uint16_t* key[T];
  Lanes acc[T];
  for (int i = 0; i < T; ++i) key[i] = keys[i], acc[i] = zero();
  for (int64_t k = 0; k < pairs; k += kKeyStep) {
    call_lines(ahead, ahead.lines);
    for (int64_t p = k; p < k + kKeyStep; p += 2) {
      const Wide q[2] = {load_pairs(turned + 16 * p), load_pairs(turned + 16 * p + 16)};
      for (int i = 0; i < T; ++i) {
        const Pair* const at = reinterpret_cast<const Pair*>(key[i] + 2 * p);
        for (int u = 0; u < 2; ++u) acc[i] = dot_pairs(acc[i], splat(at + u), q[u]);
      }
    }
  }
  for (int i = 0; i < T; ++i) store(out + 16 * i, acc[i]);
}

template <class Forms>
void score_direct(Segment& g) {
  static_assert(kDirectBlock <= kPanelPairs && kSegment % kDirectBlock == 0);
  float* const turned_scores = reinterpret_cast<float*>(g.panel);  // [kDirectBlock][16]
  for (int64_t block = 0; block < g.longest; block += kDirectBlock) {
    for (int64_t q = 0; q < g.count; q += 16) {
      int64_t n = 0;  // tokens of the block that the sixteen see
      for (int64_t i = q; i < q + 16 && i < g.count; ++i) n = g.seen[i] - block > n ? g.seen[i] - block : n;
      if (n > kDirectBlock) n = kDirectBlock;
      for (int64_t j = 0; j < n; j += kDirectKeys) {
        score_keys<kDirectKeys>(g.keys + block + j, g.turned + q * g.dim_pairs, g.dim_pairs, turned_scores + 16 * j,
                                g.ahead);
      }
      for (int64_t j = 0; j < n; j += 16) {  // scores behind n are of no meaning; weigh() sets them
        const uint16_t* rows[16];
        for (int i = 0; i < 16; ++i) rows[i] = reinterpret_cast<const uint16_t*>(turned_scores + 16 * (j + i));
        transpose_pairs(rows, 0, reinterpret_cast<uint32_t*>(g.scores + q * kSegment + block + j), kSegment);
      }
    }
  }
}

// T rows of c, 32 columns (+)= sum over pairs k of tokens of a[k] . values; odd: and the first token of one more pair.
template <class Forms, int T>
SONDE_INLINE void multiply_values(const Pair* a, float* c, int64_t ldc, const uint16_t* const* values, int64_t d,
                                  int64_t pairs, bool odd, bool add_to, Ahead<1>& ahead) {
  Lanes acc[T][2];
  for (int i = 0; i < T; ++i) {
    if (add_to)
      acc[i][0] = load(c + i * ldc), acc[i][1] = load(c + i * ldc + 16), Forms::as_beside(acc[i]);
    else
      acc[i][0] = acc[i][1] = zero();
  }
  for (int64_t k = 0; k < pairs;) {
    const int64_t end = pairs - k < kValueStep ? pairs : k + kValueStep;
    call_lines(ahead, ahead.lines);
    for (; k < end; ++k) {
      Wide b[2];
      Forms::beside(values[2 * k] + d, values[2 * k + 1] + d, b);
      for (int i = 0; i < T; ++i) {
        const auto x = splat(a + i * kWeightPairs + k);
        for (int v = 0; v < 2; ++v) acc[i][v] = dot_pairs(acc[i][v], x, b[v]);
      }
    }
  }
  if (odd) {
    Wide b[2];
    Forms::beside(values[2 * pairs] + d, values[2 * pairs + 1] + d, b);
    for (int i = 0; i < T; ++i) {
      const auto x = splat(a + i * kWeightPairs + pairs);
      for (int v = 0; v < 2; ++v) acc[i][v] = dot_pairs(acc[i][v], x, first_of(b[v]));
    }
  }
  for (int i = 0; i < T; ++i) {
    Forms::in_order(acc[i]);
    store(c + i * ldc, acc[i][0]), store(c + i * ldc + 16, acc[i][1]);
  }
}

template <class Forms>
void add_values_direct(Segment& g) {
  const int64_t tiles = direct_tiles(g.count);
  int64_t least[kSegmentQueries], most[kSegmentQueries];  // tokens that the queries of each tile see
  for (int64_t t = 0; t < tiles; ++t) {
    least[t] = kSegment, most[t] = 0;
    for (int64_t q = g.count * t / tiles; q < g.count * (t + 1) / tiles; ++q) {
      if (g.seen[q] < least[t]) least[t] = g.seen[q];
      if (g.seen[q] > most[t]) most[t] = g.seen[q];
    }
  }
  for (int64_t d = 0; d < g.value_dim; d += kDirectColumns) {
    for (int64_t t = 0; t < tiles; ++t) {
      if (most[t] == 0) continue;
      const int64_t q = g.count * t / tiles, end = g.count * (t + 1) / tiles, common = least[t] / 2;
      const bool even = least[t] == most[t];
      const Pair* const a = g.weights + q * kWeightPairs;
      float* const c = g.sums + q * g.ld + d;
      with_count<kDirectQueries>(end - q, [&]<int T>() {
        multiply_values<Forms, T>(a, c, g.ld, g.values, d, common, even && least[t] % 2 == 1, false, g.ahead);
      });
      for (int64_t i = 0; i < end - q && !even; ++i) {  // a query never meets a value that it does not see
        multiply_values<Forms, 1>(a + i * kWeightPairs + common, c + i * g.ld, 0, g.values + 2 * common, d,
                                  g.seen[q + i] / 2 - common, g.seen[q + i] % 2 == 1, true, g.ahead);
      }
    }
  }
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
