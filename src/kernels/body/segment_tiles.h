// Attention over BF16 records by matrix tiles, a segment of tokens at a time as in body/segment.h, with sums in another
// order: 32 dimensions, or 32 tokens, are one product of tiles (body/pair_tiles.h), added to those before.
//   scores: keys [16 tokens][32], as they lie, times queries [16 pairs][16 queries][2]: float [tokens][16 queries];
//   weights: a lane is a query; the exponentials are summed in the order of tokens;
//   sums: weights [16 queries][32 tokens] times values [16 pairs of tokens][16][2], two tokens laid side by side.
// One definition for every number of queries: where a query sees less than others its weights are zeros.
#pragma once

#include "kernels/body/ahead.h"
#include "kernels/body/segment_rows.h"

namespace sonde::kernels::SONDE_ISA {
namespace {

constexpr int64_t kQueryTiles = kSegmentQueries / kTile, kTokenSteps = kSegment / 32;
constexpr int64_t kTileBytes = 1024, kTileFloats = kTileBytes / 4;
constexpr int64_t kValueColumns = 64;  // laid side by side at once

// Floats of a task's memory, one part after another.
struct TileMemory {
  int64_t dims, queries, keys, scores, weights, values, zeros, end;  // dims: of a key, up to a multiple of 32
  explicit TileMemory(const AttentionShape& s) : dims(rounded_up(s.key_dim, 32)) {
    queries = 0;                                            // [tile][dims / 32][16 pairs][16][2]
    keys = queries + kQueryTiles * dims / 32 * kTileFloats;  // copies of [4][16 tokens][dims]
    scores = keys + 2 * dims * kTile;                       // [2 tiles][token][16]
    weights = scores + 2 * kSegment * kTile;                // [tile][step of tokens][16 queries][32]
    values = weights + kQueryTiles * kTokenSteps * kTileFloats;  // [step of tokens][4][16 pairs][16][2]
    zeros = values + 4 * kTokenSteps * kTileFloats;
    end = zeros + kValueColumns / 2;
  }
};
int64_t tile_segment_scratch(const AttentionShape& s) { return TileMemory(s).end; }

struct TileSegment : SegmentRows {
  const AttentionTask& task;
  const TileMemory memory;
  float *scratch, *part;
  int64_t ld;  // floats between parts
  const uint16_t *keys[kSegment], *values[kSegment], *next_keys[kSegment], *next_values[kSegment];
  Ahead<4> ahead;

  TileSegment(const AttentionTask& t, int64_t start, float* to, float* memory_of_task)
      : SegmentRows(t, start), task(t), memory(*t.shape), scratch(memory_of_task), part(to), ld(part_floats(t.shape->value_dim)) {}

  uint8_t* tile(int64_t of, int64_t i) const { return reinterpret_cast<uint8_t*>(scratch + of + i * kTileFloats); }
  int64_t query_tiles() const { return (count + kTile - 1) / kTile; }
  // Tokens that are seen by queries of two tiles.
  int64_t most_of_two(int64_t query_tile) const {
    int64_t most = 0;
    for (int64_t q = kTile * query_tile; q < count && q < kTile * (query_tile + 2); ++q) most = seen[q] > most ? seen[q] : most;
    return most;
  }

  // The task's queries, scaled; zeros behind the last.
  void lay_queries() const {
    const AttentionShape& s = *task.shape;
    alignas(64) uint16_t rows[kTile][32];
    const uint16_t* starts[kTile];
    for (int64_t i = 0; i < kTile; ++i) starts[i] = rows[i];
    for (int64_t t = 0; t < query_tiles(); ++t) {
      for (int64_t k = 0; k < memory.dims; k += 32) {
        for (int64_t i = 0; i < kTile; ++i) {
          const int64_t q = kTile * t + i;
          Run x{zero(), zero()};
          if (q < count) {
            x = load_run(task.rows[q / task.head_count].q + (task.head + q % task.head_count) * s.key_dim + k, s.key_dim - k);
          }
          store_bf16(rows[i], mul(x.a, set(s.scale))), store_bf16(rows[i] + 16, mul(x.b, set(s.scale)));
        }
        transpose_pairs(starts, 0, reinterpret_cast<uint32_t*>(tile(memory.queries, (t * memory.dims + k) / 32)), kTile);
      }
    }
  }

  // Sixteen keys from token j on, `stride` bytes apart: where they lie, or a copy if pages part them, or the last of them are
  // missing, or a key ends within 32 dimensions.
  const uint8_t* keys_at(int64_t j, int64_t copy, int64_t& stride) const {
    const AttentionShape& s = *task.shape;
    stride = 2 * s.record;
    if (j + kTile <= longest && s.key_dim == memory.dims && s.page_tokens >= kTile &&  // of two pages at most
        keys[j + kTile - 1] - keys[j] == (kTile - 1) * s.record) {
      return reinterpret_cast<const uint8_t*>(keys[j]);
    }
    stride = 2 * memory.dims;
    uint16_t* const out = reinterpret_cast<uint16_t*>(scratch + memory.keys) + copy * kTile * memory.dims;
    for (int64_t i = 0; i < kTile; ++i) {
      uint16_t* const row = out + i * memory.dims;
      for (int64_t k = j + i < longest ? s.key_dim : 0; k < memory.dims; ++k) row[k] = 0;
      if (j + i < longest) __builtin_memcpy(row, keys[j + i], std::size_t(2 * s.key_dim));
    }
    return reinterpret_cast<const uint8_t*>(out);
  }

  // Scores of K times sixteen tokens from j on and Q tiles of queries: four sums, as each waits for the one before.
  template <int K, int Q>
  void score(int64_t j, int64_t query_tile) {
    static_assert(K * Q <= 4 && (Q == 1 || K <= 2));
    const uint8_t *k[K], *q[Q];
    int64_t stride[K];
    for (int i = 0; i < K; ++i) k[i] = keys_at(j + kTile * i, i, stride[i]);
    for (int i = 0; i < Q; ++i) q[i] = tile(memory.queries, (query_tile + i) * (memory.dims / 32));
    const auto each_sum = [&](auto&& f) __attribute__((always_inline)) {
      each_constant<K>([&]<int I>() __attribute__((always_inline)) {
        each_constant<Q>([&]<int J>() __attribute__((always_inline)) {
          f.template operator()<Q * I + J>(scratch + memory.scores + (J * kSegment + j + kTile * I) * kTile);
        });
      });
    };
    each_sum([]<int N>(float*) __attribute__((always_inline)) { Tiles::zero<N>(); });
    for (int64_t step = 0; step < memory.dims / 32; ++step) {
      call_lines(ahead, K * Q * ahead.lines);
      each_constant<Q>([&]<int J>() __attribute__((always_inline)) { Tiles::load<4 + J>(q[J] + step * kTileBytes, 64); });
      each_constant<K>([&]<int I>() __attribute__((always_inline)) {
        constexpr int kKey = 4 + Q + I % (4 - Q);
        Tiles::load<kKey>(k[I] + 64 * step, stride[I]);
        each_constant<Q>([&]<int J>() __attribute__((always_inline)) { Tiles::multiply_pairs<Q * I + J, kKey, 4 + J>(); });
      });
    }
    each_sum([]<int N>(float* at) __attribute__((always_inline)) { Tiles::store<N>(at, 64); });
  }
  // Of the first `tokens` tokens.
  void score_all(int64_t query_tile, bool two, int64_t tokens) {
    for (int64_t j = 0, n; j < tokens; j += n) {
      const int64_t left = (tokens - j + kTile - 1) / kTile;  // tiles
      if (two) n = left > 1 ? (score<2, 2>(j, query_tile), 2) : (score<1, 2>(j, query_tile), 1);
      else if (left > 3) score<4, 1>(j, query_tile), n = 4;
      else n = left > 1 ? (score<2, 1>(j, query_tile), 2) : (score<1, 1>(j, query_tile), 1);
      n *= kTile;
    }
  }

  // Weights exp(x - largest) of sixteen queries, `most` tokens at most; zeros behind those that a query sees.
  void weigh(int64_t query_tile, const float* scores, int64_t most) {
    alignas(64) int32_t ends[kTile];
    int64_t least = most;
    for (int64_t i = 0; i < kTile; ++i) {
      const int64_t q = kTile * query_tile + i, n = q < count ? seen[q] : most;
      ends[i] = int32_t(n), least = n < least ? n : least;
    }
    const SeenLanes visible(ends);
    const auto score_of = [&](int64_t j) __attribute__((always_inline)) {
      const Lanes x = load(scores + kTile * j);
      return j < least ? x : visible.masked(x, j);
    };
    Lanes largest = set(-__builtin_inff()), other = largest, total = zero();
    int64_t j = 0;
    for (; j + 2 <= least; j += 2) {
      largest = larger(largest, load(scores + kTile * j)), other = larger(other, load(scores + kTile * (j + 1)));
    }
    for (; j < most; ++j) largest = larger(largest, score_of(j));
    largest = larger(largest, other);
    alignas(64) uint32_t pairs[kTile][kTile];
    const uint16_t* rows[kTile];
    for (int64_t i = 0; i < kTile; ++i) rows[i] = reinterpret_cast<const uint16_t*>(pairs[i]);
    for (j = 0; j < most; j += 32) {
      for (int64_t i = 0; i < kTile; ++i) {
        call_lines(ahead, ahead.lines);
        Lanes e[2];
        for (int64_t h = 0; h < 2; ++h) {
          const int64_t at = j + 2 * i + h;
          e[h] = at < most ? weight_lanes(sub(score_of(at), largest)) : zero();
          total = add(total, e[h]);
        }
        store_beside(pairs[i], e[0], e[1]);
      }
      transpose_pairs(rows, 0, reinterpret_cast<uint32_t*>(tile(memory.weights, query_tile * kTokenSteps + j / 32)), kTile);
    }
    alignas(64) float sums[2][kTile];
    store(sums[0], largest), store(sums[1], total);
    for (int64_t i = 0; i < kTile && kTile * query_tile + i < count; ++i) {
      float* const to = part + (kTile * query_tile + i) * ld;
      to[0] = sums[0][i], to[1] = sums[1][i];
    }
  }

  // Values of columns [d, d + kValueColumns) of a step of 32 tokens, zeros behind the first `tokens` and behind the last column,
  // into a slot. False: of those that only some queries see, from token `some` on, one is not finite.
  bool lay_values(int64_t d, int64_t step, int64_t slot, int64_t tokens, int64_t some) {
    const int64_t columns = task.shape->value_dim - d < kValueColumns ? task.shape->value_dim - d : kValueColumns;
    const uint16_t* const none = reinterpret_cast<const uint16_t*>(scratch + memory.zeros);
    uint8_t* to = tile(memory.values, 4 * slot);
    const auto lay = [&](const uint16_t* a, const uint16_t* b) __attribute__((always_inline)) {
      store_quarters(a, b, to, to + kTileBytes), store_quarters(a + 32, b + 32, to + 2 * kTileBytes, to + 3 * kTileBytes);
      to += 64;
    };
    if (columns == kValueColumns && 32 * step + 32 <= tokens && 32 * step + 32 <= some) {
      for (const uint16_t *const *at = values + 32 * step, *const *end = at + 32; at < end; at += 8) {
        call_lines(ahead, 4 * ahead.lines);
        for (int i = 0; i < 8; i += 2) lay(at[i] + d, at[i + 1] + d);
      }
      return true;
    }
    bool finite = true;
    for (int64_t j = 32 * step; j < 32 * step + 32; j += 2) {
      call_lines(ahead, ahead.lines);
      const uint16_t *a = j < tokens ? values[j] + d : none, *b = j + 1 < tokens ? values[j + 1] + d : none;
      alignas(64) uint16_t copies[2][kValueColumns];
      if (columns < kValueColumns) {
        for (int64_t i = 0; i < kValueColumns; ++i) copies[0][i] = i < columns ? a[i] : 0, copies[1][i] = i < columns ? b[i] : 0;
        a = copies[0], b = copies[1];
      }
      if (j + 2 > some) finite = finite && finite_32(a) && finite_32(a + 32) && finite_32(b) && finite_32(b + 32);
      lay(a, b);
    }
    return finite;
  }
  bool lay_all_values(int64_t d, int64_t tokens, int64_t some) {
    bool finite = true;
    for (int64_t step = 0; 32 * step < tokens; ++step) finite = lay_values(d, step, step, tokens, some) && finite;
    return finite;
  }

  // Sums of Q tiles of queries and the laid values of `tokens` tokens, 4 / Q tiles of them from `columns` on, into columns of
  // queries [first, end). Steps stand in `slots` slots in turn; before(step) may lay those to come.
  template <int Q, class Before>
  void add_up(int64_t query_tile, int64_t d, int64_t columns, int64_t tokens, int64_t first, int64_t end, int64_t slots,
              Before&& before) const {
    constexpr int V = 4 / Q;
    each_constant<4>([]<int N>() __attribute__((always_inline)) { Tiles::zero<N>(); });
    const uint8_t* w = tile(memory.weights, query_tile * kTokenSteps);
    for (int64_t step = 0; 32 * step < tokens; ++step, w += kTileBytes) {
      before(step);
      const uint8_t* const v = tile(memory.values, 4 * (step % slots) + columns / 16);
      each_constant<Q>([&]<int I>() __attribute__((always_inline)) {
        Tiles::load<4 + I>(w + I * kTokenSteps * kTileBytes, 64);
      });
      each_constant<V>([&]<int J>() __attribute__((always_inline)) {
        constexpr int kValue = 4 + Q + J % (4 - Q);
        Tiles::load<kValue>(v + J * kTileBytes, 64);
        each_constant<Q>([&]<int I>() __attribute__((always_inline)) { Tiles::multiply_pairs<V * I + J, 4 + I, kValue>(); });
      });
    }
    alignas(64) float sums[4][kTile][16];
    each_constant<4>([&]<int N>() __attribute__((always_inline)) { Tiles::store<N>(sums[N], 64); });
    const int64_t left = task.shape->value_dim - d - columns;
    for (int64_t q = first; q < end; ++q) {
      const int64_t i = q - kTile * query_tile;
      float* const to = part + q * ld + kPartHeader + d + columns;
      for (int64_t j = 0; j < V && 16 * j < left; j += 2) {
        Lanes both[2] = {load(sums[i / kTile * V + j][i % kTile]), load(sums[i / kTile * V + j + 1][i % kTile])};
        quarters_in_order(both);
        store(to + 16 * j, both[0]), store(to + 16 * j + 16, both[1]);
      }
    }
  }
  template <int Q>
  void add_up_laid(int64_t query_tile, int64_t d, int64_t columns, int64_t tokens, int64_t first, int64_t end) const {
    add_up<Q>(query_tile, d, columns, tokens, first, end, kTokenSteps, [](int64_t) {});
  }
  void add_up_two(int64_t query_tile, int64_t d, int64_t tokens) const {
    const int64_t first = kTile * query_tile, end = count < first + 2 * kTile ? count : first + 2 * kTile;
    if (end - first <= kTile) return add_up_laid<1>(query_tile, d, 0, tokens, first, end);
    add_up_laid<2>(query_tile, d, 0, tokens, first, end);
    if (d + 32 < task.shape->value_dim) add_up_laid<2>(query_tile, d, 32, tokens, first, end);
  }
  // All sums of columns [d, d + kValueColumns). False: as lay_values() says, and the sums are not to be used.
  bool add_up_all(int64_t d, int64_t some) {
    if (query_tiles() == 1) {  // values are laid a step before their use: they stay in the first-level cache
      bool finite = lay_values(d, 0, 0, longest, some);
      add_up<1>(0, d, 0, longest, 0, count, 2, [&](int64_t step) {
        if (32 * (step + 1) < longest) finite = lay_values(d, step + 1, (step + 1) % 2, longest, some) && finite;
      });
      return finite;
    }
    if (!lay_all_values(d, longest, some)) return false;
    for (int64_t t = 0; t < query_tiles(); t += 2) add_up_two(t, d, most_of_two(t));
    return true;
  }
};

void attention_segment_by_tiles(const AttentionTask& task, int64_t segment, SegmentRun run, float* part, float* scratch) {
  const AttentionShape& s = *task.shape;
  const int64_t start = segment * kSegment, key_head = task.head * s.key_heads / s.heads;
  TileSegment g(task, start, part, scratch);
  if (g.longest == 0) return;
  const int64_t to_key = s.key_offset + key_head * s.key_stride, to_value = s.value_offset + key_head * s.value_stride;
  const bool apart = to_key != to_value;
  const int64_t later = run.goes_on ? g.most_tokens - start - g.longest : 0, next = later < kSegment ? later : kSegment;
  each_record(task, start, g.longest,
              [&](int64_t j, const uint16_t* record) { g.keys[j] = record + to_key, g.values[j] = record + to_value; });
  each_record(task, start + g.longest, next,
              [&](int64_t j, const uint16_t* record) { g.next_keys[j] = record + to_key, g.next_values[j] = record + to_value; });
  for (int64_t k = 0; k < kValueColumns / 2; k += 16) store(scratch + g.memory.zeros + k, zero());

  // What the next segment reads is called for while this one is computed, in the order of its use.
  const int64_t query_tiles = g.query_tiles(), steps = (g.longest + 31) / 32;
  int64_t lines = 0;
  if (!run.same_task) {
    call_lines(g.ahead, g.ahead.add({g.keys, g.longest, 0, s.key_dim}));
    if (apart) lines += g.ahead.add({g.values, g.longest, 0, s.value_dim});
  }
  lines += g.ahead.add({g.next_keys, next, 0, s.key_dim});
  if (apart) lines += g.ahead.add({g.next_values, next, 0, s.value_dim});
  const int64_t columns = (s.value_dim + kValueColumns - 1) / kValueColumns;
  g.ahead.spread(lines, steps * (query_tiles * (kTile + g.memory.dims / 16) + columns * kTile));

  const Tiles tiles(pair_shapes(kTile));
  if (!run.same_task) g.lay_queries();
  for (int64_t t = 0; t < query_tiles; t += 2) {
    const int both = t + 1 < query_tiles ? 2 : 1;
    const int64_t tokens = g.most_of_two(t);
    g.score_all(t, both == 2, tokens);
    for (int i = 0; i < both && tokens > 0; ++i) g.weigh(t + i, scratch + g.memory.scores + i * kSegment * kTile, tokens);
  }
  int64_t least = g.longest;
  for (int64_t q = 0; q < g.count; ++q) least = g.seen[q] < least ? g.seen[q] : least;
  for (int64_t d = 0; d < s.value_dim; d += kValueColumns) {
    if (g.add_up_all(d, least)) continue;
    for (int64_t q = 0; q < g.count; ++q) {  // a query never meets a value that it does not see
      g.lay_all_values(d, g.seen[q], g.seen[q]);
      g.add_up_laid<1>(q / kTile, d, 0, g.seen[q], q, q + 1);
    }
  }
}

// --- the table --------------------------------------------------------------------------------------------------
void take_attention(KernelTable& table) {
  table.attention_segment = attention_segment_by_tiles, table.segment_scratch = tile_segment_scratch;
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
