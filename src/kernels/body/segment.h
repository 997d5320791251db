// Attention over BF16 records, one segment of tokens at a time. Both products, queries by keys and weights by values,
// are products of pairs of BF16 summed pair after pair, by panels (segment_panels.h) or straight from the records
// (segment_direct.h): the same sums bit for bit.
#pragma once

#include "kernels/body/ahead.h"
#include "kernels/body/segment_rows.h"

namespace sonde::kernels::SONDE_ISA {
namespace {

constexpr int64_t kPanelPairs = 64, kPanelColumns = 64, kWeightPairs = kSegment / 2;

// A segment of a task at work.
struct Segment : SegmentRows {
  int64_t key_dim, value_dim, dim_pairs;
  const uint16_t *keys[kSegment], *values[kSegment];  // zeros behind the longest, up to a multiple of kPanelColumns
  uint32_t* panel;                                    // [kPanelPairs][kPanelColumns]
  Pair* queries;                                      // [count][dim_pairs]
  uint32_t* turned;                                   // [groups of 16][dim_pairs][16]
  float* scores;                                      // [count][kSegment]
  Pair* weights;                                      // [count][kWeightPairs]
  float* sums;                                        // [count], ld floats apart
  int64_t ld;
  Ahead<1> ahead;

  Segment(const AttentionTask& task, int64_t start) : SegmentRows(task, start) {}
};

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA

#include "kernels/body/segment_panels.h"
// (panels first)
#include "kernels/body/segment_direct.h"

namespace sonde::kernels::SONDE_ISA {
namespace {

// Floats of a task's memory, one part after another.
struct SegmentMemory {
  int64_t queries, turned, weights, scores, zeros, end;
};
SegmentMemory segment_memory(const AttentionShape& s) {
  constexpr int64_t kPairFloats = int64_t(sizeof(Pair) / sizeof(float));
  const int64_t dim_pairs = rounded_up(s.key_dim, 32) / 2;
  SegmentMemory m;
  m.queries = kPanelPairs * kPanelColumns;
  m.turned = m.queries + kSegmentQueries * dim_pairs * kPairFloats;
  m.weights = m.turned + (Direct::kUsed ? kSegmentQueries * dim_pairs : 0);
  m.scores = m.weights + kSegmentQueries * kWeightPairs * kPairFloats;
  m.zeros = m.scores + kSegmentQueries * kSegment;
  m.end = m.zeros + rounded_up(s.key_dim > s.value_dim ? s.key_dim : s.value_dim, 32);
  return m;
}
int64_t segment_scratch(const AttentionShape& s) { return segment_memory(s).end; }

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

template <class Forms>
SONDE_INLINE void score(Segment& g) {
  if constexpr (Forms::kUsed) {
    if (scores_directly<Forms>(g.count, g.key_dim)) return score_direct<Forms>(g);
  }
  score_panels(g);
}
template <class Forms>
SONDE_INLINE void add_values(Segment& g) {
  if constexpr (Forms::kUsed) {
    if (adds_directly<Forms>(g.value_dim)) return add_values_direct<Forms>(g);
  }
  add_value_panels(g);
}

void attention_segment(const AttentionTask& task, int64_t segment, SegmentRun run, float* part, float* scratch) {
  const AttentionShape& s = *task.shape;
  const int64_t start = segment * kSegment, key_head = task.head * s.key_heads / s.heads;
  const SegmentMemory memory = segment_memory(s);
  Segment g(task, start);
  const int64_t longest = g.longest;
  if (longest == 0) return;
  g.key_dim = s.key_dim, g.value_dim = s.value_dim, g.dim_pairs = rounded_up(s.key_dim, 32) / 2;
  g.panel = reinterpret_cast<uint32_t*>(scratch);
  g.queries = reinterpret_cast<Pair*>(scratch + memory.queries);
  g.turned = reinterpret_cast<uint32_t*>(scratch + memory.turned);
  g.weights = reinterpret_cast<Pair*>(scratch + memory.weights);
  g.scores = scratch + memory.scores;
  g.sums = part + kPartHeader, g.ld = part_floats(s.value_dim);

  const bool direct = scores_directly<Direct>(g.count, s.key_dim), direct_values = adds_directly<Direct>(s.value_dim);
  const bool apart = s.value_offset != s.key_offset;
  // Keys of the next segment that are called for along with these values: half of those that bring their values and are
  // soon multiplied.
  const int64_t early = direct && !apart ? kSegment / 2 : kPanelColumns;
  const int64_t called = !run.same_task ? 0 : longest < early ? longest : early;
  const int64_t later = run.goes_on ? g.most_tokens - start - longest : 0, next_count = later < early ? later : early;
  const uint16_t* next[kSegment];
  const int64_t to_key = s.key_offset + key_head * s.key_stride, to_value = s.value_offset + key_head * s.value_stride;
  each_record(task, start, longest,
              [&](int64_t j, const uint16_t* record) { g.keys[j] = record + to_key, g.values[j] = record + to_value; });
  each_record(task, start + longest, next_count, [&](int64_t j, const uint16_t* record) { next[j] = record + to_key; });
  uint16_t* const zeros = reinterpret_cast<uint16_t*>(scratch + memory.zeros);
  for (int64_t k = 0; k < rounded_up(s.key_dim > s.value_dim ? s.key_dim : s.value_dim, 32); ++k) zeros[k] = 0;
  for (int64_t j = longest; j < rounded_up(longest, kPanelColumns); ++j) g.keys[j] = g.values[j] = zeros;

  int64_t lines = g.ahead.add({g.keys + called, longest - called, 0, s.key_dim}), later_lines = 0;
  for (int64_t d = 0; d < s.value_dim && apart; d += kPanelColumns) {
    later_lines +=
        g.ahead.add({g.values, longest, d, d + kPanelColumns < s.value_dim ? d + kPanelColumns : s.value_dim});
  }
  later_lines += g.ahead.add({next, next_count, 0, s.key_dim});
  if (apart) {  // evenly in time, half of which again it takes to make panels; else the keys bring the values
    const int64_t all = lines + later_lines;
    const int64_t scoring = s.key_dim * (direct ? 2 : 3), adding = s.value_dim * (direct_values ? 2 : 3);
    lines = all * scoring / (scoring + adding), later_lines = all - lines;
  }
  g.ahead.spread(lines, direct ? direct_key_steps(g) : panel_key_steps(g));
  if (!run.same_task) {
    call_lines(g.ahead, kPanelColumns * ((s.key_dim + 31) / 32));
    pack_queries(task, g.dim_pairs, g.queries);
    if (direct) turn_queries<Direct>(g.queries, g.count, g.dim_pairs, g.turned);
  }

  score<Direct>(g);
  for (int64_t q = 0; q < g.count; ++q) {
    if (g.seen[q] > 0) weigh(g.scores + q * kSegment, g.seen[q], g.weights + q * kWeightPairs, part + q * g.ld);
  }
  g.ahead.spread(later_lines, direct_values ? direct_value_steps(g) : panel_value_steps(g));
  add_values<Direct>(g);
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
