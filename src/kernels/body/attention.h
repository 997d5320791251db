// Attention of up to kAttentionQueries queries over the keys they share. Softmax runs online over blocks of kKeyBlock
// tokens counted from token 0, so that a query's result depends on its own length alone.
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

struct AttentionState {
  const float* q[kAttentionQueries];
  float* out[kAttentionQueries];
  int64_t length[kAttentionQueries];
  float largest[kAttentionQueries];
  double sum[kAttentionQueries];
  const float* keys[kKeyBlock];
  const float* values[kKeyBlock];
};

constexpr int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }

int64_t attention_scratch(const AttentionShape& s) { return kAttentionQueries * (kKeyBlock + padded(s.value_dim)); }

// scores[i] = dot(q[i], key[j]) for j < keys.
template <int T>
SONDE_INLINE void score_tile(const float* const (&q)[T], float* const (&scores)[T], const float* const* keys,
                             int64_t count, int64_t dim) {
  int64_t j = 0;
  for (; j + kTileRows <= count; j += kTileRows) {
    const float* w[kTileRows];
    for (int r = 0; r < kTileRows; ++r) w[r] = keys[j + r];
    Tile<kTileRows, T> tile;
    clear(tile);
    accumulate(tile, w, q, dim);
    float sums[T][kTileRows];
    reduce(tile, sums);
    for (int i = 0; i < T; ++i) {
      for (int r = 0; r < kTileRows; ++r) scores[i][j + r] = sums[i][r];
    }
  }
  for (; j < count; ++j) {
    const float* const w[1] = {keys[j]};
    Tile<1, T> tile;
    clear(tile);
    accumulate(tile, w, q, dim);
    for (int i = 0; i < T; ++i) scores[i][j] = sum(tile.acc[0][i]);
  }
}

// acc[i] += p[i][j] * value[j] for first <= j < last, in order; V registers of dimensions at d, the last one `part` wide.
template <int T, int V, bool Part>
SONDE_INLINE void value_tile(const float* const (&p)[T], float* const (&acc)[T], const float* const* values,
                             int64_t first, int64_t last, int64_t d, int64_t part) {
  Lanes c[V][T];
  for (int v = 0; v < V; ++v) {
    for (int i = 0; i < T; ++i) c[v][i] = load(acc[i] + d + 16 * v);
  }
  values += first;
  for (int64_t j = 0; j < last - first; ++j) {
    Lanes a[T];
    for (int i = 0; i < T; ++i) a[i] = set(p[i][first + j]);
    for (int v = 0; v < V; ++v) {
      const Lanes b = Part ? load_part(values[j] + d + 16 * v, part) : load(values[j] + d + 16 * v);
      for (int i = 0; i < T; ++i) c[v][i] = fma(a[i], b, c[v][i]);
    }
  }
  for (int v = 0; v < V; ++v) {
    for (int i = 0; i < T; ++i) store(acc[i] + d + 16 * v, c[v][i]);
  }
}

template <int T>
SONDE_INLINE void add_values(const float* const (&p)[T], float* const (&acc)[T], const float* const* values,
                             int64_t first, int64_t last, int64_t dim) {
  if (first >= last) return;
  int64_t d = 0;
  for (; d + 16 * kTileRows <= dim; d += 16 * kTileRows) {
    value_tile<T, kTileRows, false>(p, acc, values, first, last, d, 16);
  }
  for (; d + 16 <= dim; d += 16) value_tile<T, 1, false>(p, acc, values, first, last, d, 16);
  if (d < dim) value_tile<T, 1, true>(p, acc, values, first, last, d, dim - d);
}

void attention(const AttentionTask& task, float* scratch) {
  const AttentionShape& s = *task.shape;
  const int64_t count = task.row_count * task.head_count, ld = padded(s.value_dim);
  const int64_t key_head = task.head * s.key_heads / s.heads;
  float* const all_scores = scratch;
  float* const all_acc = scratch + kAttentionQueries * kKeyBlock;
  AttentionState state;
  int64_t longest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const AttentionRow& row = task.rows[i / task.head_count];
    const int64_t head = task.head + i % task.head_count;
    state.q[i] = row.q + head * s.key_dim;
    state.out[i] = row.out + head * s.value_dim;
    state.length[i] = row.length;
    state.largest[i] = -__builtin_inff();
    state.sum[i] = 0;
    for (int64_t d = 0; d < ld; ++d) all_acc[i * ld + d] = 0;
    if (row.length > longest) longest = row.length;
  }

  for (int64_t start = 0; start < longest; start += kKeyBlock) {
    const int64_t keys = longest - start < kKeyBlock ? longest - start : kKeyBlock;
    for (int64_t j = 0; j < keys; ++j) {
      const int64_t token = start + j;
      const float* record = reinterpret_cast<const float*>(task.rows[0].pages[token / s.page_tokens]) +
                            token % s.page_tokens * s.record;
      state.keys[j] = record + s.key_offset + key_head * s.key_stride;
      state.values[j] = record + s.value_offset + key_head * s.value_stride;
    }
    int64_t active[kAttentionQueries], actives = 0;
    for (int64_t i = 0; i < count; ++i) {
      if (state.length[i] > start) active[actives++] = i;
    }
    const int64_t tiles = (actives + kTileTokens - 1) / kTileTokens;
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t a = actives * t / tiles, b = actives * (t + 1) / tiles;
      with_count<kTileTokens>(b - a, [&]<int T>() {
        const float* q[T];
        const float* p[T];
        float* scores[T];
        float* acc[T];
        int64_t seen[T], most = 0, least = kKeyBlock;  // keys of this block that each query sees
        for (int i = 0; i < T; ++i) {
          const int64_t n = active[a + i];
          q[i] = state.q[n];
          p[i] = scores[i] = all_scores + n * kKeyBlock;
          acc[i] = all_acc + n * ld;
          seen[i] = state.length[n] - start < keys ? state.length[n] - start : keys;
          if (seen[i] > most) most = seen[i];
          if (seen[i] < least) least = seen[i];
        }
        score_tile<T>(q, scores, state.keys, most, s.key_dim);
        for (int i = 0; i < T; ++i) {
          const int64_t n = active[a + i];
          for (int64_t j = 0; j < seen[i]; ++j) scores[i][j] *= s.scale;
          const float block = largest(scores[i], seen[i]);
          if (block > state.largest[n]) {
            float shrink[1] = {state.largest[n]};
            exp_and_sum(shrink, 1, block);
            for (int64_t d = 0; d < ld; ++d) acc[i][d] *= shrink[0];
            state.sum[n] *= double(shrink[0]);
            state.largest[n] = block;
          }
          state.sum[n] += exp_and_sum(scores[i], seen[i], state.largest[n]);
        }
        add_values<T>(p, acc, state.values, 0, least, s.value_dim);
        for (int i = 0; i < T; ++i) {  // the ragged edge of a causal block, query by query
          const float* const one_p[1] = {p[i]};
          float* const one_acc[1] = {acc[i]};
          add_values<1>(one_p, one_acc, state.values, least, seen[i], s.value_dim);
        }
      });
    }
  }

  for (int64_t i = 0; i < count; ++i) {
    const float total = float(state.sum[i]);
    for (int64_t d = 0; d < s.value_dim; ++d) {
      state.out[i][d] = state.length[i] > 0 ? all_acc[i * ld + d] / total : 0.0f;
    }
  }
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
