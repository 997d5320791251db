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

// Floats of a task's memory, one part after another.
struct TileMemory {
  int64_t dims, queries, keys, scores, weights, values, zeros, end;  // dims: of a key, up to a multiple of 32
  explicit TileMemory(const AttentionShape& s) : dims(rounded_up(s.key_dim, 32)) {
    queries = 0;                                            // [tile][dims / 32][16 pairs][16][2]
    keys = queries + kQueryTiles * dims / 32 * kTileFloats;  // copies of [2][16 tokens][dims]
    scores = keys + dims * kTile;                           // [2 tiles][token][16]
    weights = scores + 2 * kSegment * kTile;                // [tile][step of tokens][16 queries][32]
    values = weights + kQueryTiles * kTokenSteps * kTileFloats;  // [2][step of tokens][16 pairs][16][2]
    zeros = values + 2 * kTokenSteps * kTileFloats;
    end = zeros + rounded_up(s.value_dim, 32);
  }
};
int64_t tile_segment_scratch(const AttentionShape& s) { return TileMemory(s).end; }

struct TileSegment : SegmentRows {
  const AttentionTask& task;
  const TileMemory memory;
  float *scratch, *part;
  int64_t ld;  // floats between parts
  const uint16_t *keys[kSegment], *values[kSegment], *next_keys[kSegment], *next_values[kSegment];
  Ahead ahead;

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
    if (j + kTile <= longest && s.key_dim == memory.dims && keys[j + kTile - 1] - keys[j] == (kTile - 1) * s.record) {
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

  // Scores of K times sixteen tokens from j on and Q tiles of queries.
  template <int K, int Q>
  SONDE_INLINE void score(int64_t j, int64_t query_tile) const {
    const uint8_t* k[K];
    int64_t stride[K];
    for (int i = 0; i < K; ++i) k[i] = keys_at(j + kTile * i, i, stride[i]);
    const auto each_sum = [&](auto&& f) __attribute__((always_inline)) {
      each_constant<K>([&]<int I>() __attribute__((always_inline)) {
        each_constant<Q>([&]<int J>() __attribute__((always_inline)) {
          f.template operator()<kPairSums + 2 * I + J>(scratch + memory.scores + (J * kSegment + j + kTile * I) * kTile);
        });
      });
    };
    each_sum([]<int N>(float*) __attribute__((always_inline)) { Tiles::zero<N>(); });
    for (int64_t step = 0; step < memory.dims / 32; ++step) {
      each_constant<K>([&]<int I>() __attribute__((always_inline)) {
        Tiles::load<kPairX + I>(k[I] + 64 * step, stride[I]);
        each_constant<Q>([&]<int J>() __attribute__((always_inline)) {
          if constexpr (I == 0) Tiles::load<kPairW + J>(tile(memory.queries, (query_tile + J) * (memory.dims / 32) + step), 64);
          Tiles::multiply_pairs<kPairSums + 2 * I + J, kPairX + I, kPairW + J>();
        });
      });
    }
    each_sum([]<int N>(float* at) __attribute__((always_inline)) { Tiles::store<N>(at, 64); });
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
    Lanes most_of[4], total = zero();
    for (Lanes& x : most_of) x = set(-__builtin_inff());
    for (int64_t j = 0; j < most; ++j) most_of[j % 4] = larger(most_of[j % 4], score_of(j));
    const Lanes largest = larger(larger(most_of[0], most_of[1]), larger(most_of[2], most_of[3]));
    alignas(64) uint32_t pairs[kTile][kTile];
    const uint16_t* rows[kTile];
    for (int64_t i = 0; i < kTile; ++i) rows[i] = reinterpret_cast<const uint16_t*>(pairs[i]);
    for (int64_t j = 0; j < most; j += 32) {
      call_lines(ahead, 2 * ahead.lines);
      for (int64_t i = 0; i < kTile; ++i) {
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

  // Values of columns [d, d + 32) of the first `tokens` tokens, zeros behind them. False: of those that only some queries
  // see, from token `some` on, one is not finite.
  bool lay_values(int64_t d, int64_t tokens, int64_t some) {
    bool finite = true;
    const int64_t columns = task.shape->value_dim - d;
    const uint16_t* const none = reinterpret_cast<const uint16_t*>(scratch + memory.zeros);
    for (int64_t j = 0; j < rounded_up(tokens, 32); j += 2) {
      if (j % 32 == 0) call_lines(ahead, ahead.lines);
      const uint16_t* rows[2] = {j < tokens ? values[j] + d : none, j + 1 < tokens ? values[j + 1] + d : none};
      alignas(64) uint16_t copies[2][32];
      for (int i = 0; i < 2 && columns < 32; ++i) {
        store(reinterpret_cast<float*>(copies[i]), zero());
        __builtin_memcpy(copies[i], rows[i], std::size_t(2 * columns));
        rows[i] = copies[i];
      }
      if (j + 2 > some) finite = finite && finite_32(rows[0]) && finite_32(rows[1]);
      uint8_t* const to = tile(memory.values, j / 32) + j % 32 / 2 * 64;
      beside_quarters(rows[0], rows[1], to, to + kTokenSteps * kTileBytes);
    }
    return finite;
  }

  // Sums of Q tiles of queries and the laid values of `tokens` tokens, into columns [d, d + 32) of queries [first, end).
  template <int Q>
  SONDE_INLINE void add_up(int64_t query_tile, int64_t d, int64_t tokens, int64_t first, int64_t end) const {
    each_constant<2 * Q>([]<int N>() __attribute__((always_inline)) { Tiles::zero<kPairSums + N>(); });
    for (int64_t step = 0; step < (tokens + 31) / 32; ++step) {
      each_constant<Q>([&]<int I>() __attribute__((always_inline)) {
        Tiles::load<kPairX + I>(tile(memory.weights, (query_tile + I) * kTokenSteps + step), 64);
        each_constant<2>([&]<int J>() __attribute__((always_inline)) {
          if constexpr (I == 0) Tiles::load<kPairW + J>(tile(memory.values, J * kTokenSteps + step), 64);
          Tiles::multiply_pairs<kPairSums + 2 * I + J, kPairX + I, kPairW + J>();
        });
      });
    }
    alignas(64) float sums[Q][2][kTile][16];
    each_constant<2 * Q>([&]<int N>() __attribute__((always_inline)) { Tiles::store<kPairSums + N>(sums[N / 2][N % 2], 64); });
    for (int64_t q = first; q < end; ++q) {
      const int64_t i = q - kTile * query_tile;
      Lanes both[2] = {load(sums[i / kTile][0][i % kTile]), load(sums[i / kTile][1][i % kTile])};
      quarters_in_order(both);
      float* const to = part + q * ld + kPartHeader + d;
      store(to, both[0]), store(to + 16, both[1]);
    }
  }
};

void attention_segment_by_tiles(const AttentionTask& task, int64_t segment, bool same_task, float* part, float* scratch) {
  const AttentionShape& s = *task.shape;
  const int64_t start = segment * kSegment, key_head = task.head * s.key_heads / s.heads;
  TileSegment g(task, start, part, scratch);
  if (g.longest == 0) return;
  const int64_t to_key = s.key_offset + key_head * s.key_stride, to_value = s.value_offset + key_head * s.value_stride;
  const bool apart = to_key != to_value;
  const int64_t later = g.most_tokens - start - g.longest, next = later < kSegment ? later : kSegment;
  each_record(task, start, g.longest,
              [&](int64_t j, const uint16_t* record) { g.keys[j] = record + to_key, g.values[j] = record + to_value; });
  each_record(task, start + g.longest, next,
              [&](int64_t j, const uint16_t* record) { g.next_keys[j] = record + to_key, g.next_values[j] = record + to_value; });
  for (int64_t k = 0; k < rounded_up(s.value_dim, 32); k += 16) store(scratch + g.memory.zeros + k, zero());

  // What the next segment reads is called for while this one is computed, in the order of its use.
  const int64_t query_tiles = g.query_tiles(), steps = (g.longest + 31) / 32;
  int64_t lines = 0;
  if (!same_task) {
    call_lines(g.ahead, g.ahead.add({g.keys, g.longest, 0, s.key_dim}));
    if (apart) lines += g.ahead.add({g.values, g.longest, 0, s.value_dim});
  }
  lines += g.ahead.add({g.next_keys, next, 0, s.key_dim});
  if (apart) lines += g.ahead.add({g.next_values, next, 0, s.value_dim});
  g.ahead.spread(lines, steps * (3 * query_tiles + (s.value_dim + 31) / 32));

  const Tiles tiles(pair_shapes(kTile));
  if (!same_task) g.lay_queries();
  for (int64_t t = 0; t < query_tiles; t += 2) {
    const int both = t + 1 < query_tiles ? 2 : 1;
    const int64_t tokens = g.most_of_two(t);
    for (int64_t j = 0; j < tokens; j += 2 * kTile) {
      call_lines(g.ahead, both * g.ahead.lines);
      if (tokens - j > kTile) both == 2 ? g.score<2, 2>(j, t) : g.score<2, 1>(j, t);
      else both == 2 ? g.score<1, 2>(j, t) : g.score<1, 1>(j, t);
    }
    for (int i = 0; i < both && tokens > 0; ++i) g.weigh(t + i, scratch + g.memory.scores + i * kSegment * kTile, tokens);
  }
  int64_t least = g.longest;
  for (int64_t q = 0; q < g.count; ++q) least = g.seen[q] < least ? g.seen[q] : least;
  for (int64_t d = 0; d < s.value_dim; d += 32) {
    if (g.lay_values(d, g.longest, least)) {
      for (int64_t t = 0; t < query_tiles; t += 2) {
        const int64_t first = kTile * t, end = g.count < first + 2 * kTile ? g.count : first + 2 * kTile, tokens = g.most_of_two(t);
        end - first > kTile ? g.add_up<2>(t, d, tokens, first, end) : g.add_up<1>(t, d, tokens, first, end);
      }
      continue;
    }
    for (int64_t q = 0; q < g.count; ++q) {  // a query never meets a value that it does not see
      g.lay_values(d, g.seen[q], g.seen[q]);
      g.add_up<1>(q / kTile, d, g.seen[q], q, q + 1);
    }
  }
}

// --- the table --------------------------------------------------------------------------------------------------
void take_attention(KernelTable& table) {
  table.attention_segment = attention_segment_by_tiles, table.segment_scratch = tile_segment_scratch;
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
