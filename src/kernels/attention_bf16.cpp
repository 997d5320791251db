// Cuts attention over BF16 records into tasks. A task goes through its segments one after another; where that leaves
// threads idle (one sequence decodes) segments are tasks too, and are joined afterwards: the same sums in the same order.
#include <algorithm>
#include <limits>
#include <vector>

#include "base/memory.h"
#include "kernels/kernels.h"
#include "kernels/scratch.h"
#include "kernels/table.h"

namespace sonde::kernels {
namespace {

int64_t segments_of(int64_t length) { return (length + kSegment - 1) / kSegment; }

struct Work {
  AttentionTask task;
  int64_t longest;     // row
  int64_t segment;     // -1: all of them
  float* part;         // of that segment
};

// The memory of a caller, kept from call to call.
struct Plan {
  std::vector<Work> tasks, pieces;
  AlignedVector<float> parts;
};

void begin_part(float* whole, int64_t floats) {
  std::fill_n(whole, floats, 0.0f);
  whole[0] = -std::numeric_limits<float>::infinity();
}

void write_result(const KernelTable& table, const AttentionTask& task, int64_t query, const float* whole) {
  const AttentionRow& row = task.rows[query / task.head_count];
  const int64_t dim = task.shape->value_dim;
  float* out = row.out + (task.head + query % task.head_count) * dim;
  if (row.length > 0) return table.finish_part(whole, out, dim);
  std::fill_n(out, dim, 0.0f);
}

void run_whole(const KernelTable& table, const Work& work, int64_t kernel_floats) {
  const AttentionTask& task = work.task;
  const int64_t dim = task.shape->value_dim, ld = part_floats(dim), count = task.row_count * task.head_count;
  float* const buffer = scratch(kernel_floats + 2 * count * ld);
  float *const part = buffer + kernel_floats, *const whole = part + count * ld;
  for (int64_t q = 0; q < count; ++q) begin_part(whole + q * ld, ld);
  for (int64_t segment = 0, end = segments_of(work.longest); segment < end; ++segment) {
    table.attention_segment(task, segment, {segment > 0, segment + 1 < end}, part, buffer);
    for (int64_t q = 0; q < count; ++q) {
      if (task.rows[q / task.head_count].length > segment * kSegment) table.join_part(whole + q * ld, part + q * ld, dim);
    }
  }
  for (int64_t q = 0; q < count; ++q) write_result(table, task, q, whole + q * ld);
}

}  // namespace

void attention_bf16(ThreadPool& pool, const AttentionShape& shape, std::span<const AttentionRow> rows) {
  const KernelTable& table = kernels::table();
  const int64_t group = shape.heads / shape.key_heads, count = int64_t(rows.size()), ld = part_floats(shape.value_dim);
  const int64_t heads = std::min(group, kSegmentQueries), together = kSegmentQueries / heads;
  const int64_t kernel_floats = table.segment_scratch(shape);
  thread_local Plan mine;
  Plan& plan = mine;  // the caller's, whichever thread a task runs on
  plan.tasks.clear(), plan.pieces.clear();

  int64_t seen = 0, part_count = 0;
  for (int64_t begin = 0, end; begin < count; begin = end) {
    int64_t longest = 0;
    for (end = begin; end < count && end - begin < together; ++end) {
      if (rows[std::size_t(end)].pages != rows[std::size_t(begin)].pages) break;
      longest = std::max(longest, rows[std::size_t(end)].length);
    }
    for (int64_t key_head = 0; key_head < shape.key_heads; ++key_head) {
      for (int64_t h = 0; h < group; h += heads) {
        const AttentionTask task{&shape, &rows[std::size_t(begin)], end - begin, key_head * group + h, std::min(heads, group - h)};
        plan.tasks.push_back({task, longest, -1, nullptr});
        part_count += segments_of(longest) * task.row_count * task.head_count;
        seen += longest * task.row_count * task.head_count;
      }
    }
  }
  const auto by_length = [](const Work& a, const Work& b) { return a.longest > b.longest; };
  std::sort(plan.tasks.begin(), plan.tasks.end(), by_length);  // the largest first

  const int64_t tasks = int64_t(plan.tasks.size());
  const auto all = [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) run_whole(table, plan.tasks[std::size_t(i)], kernel_floats);
  };
  constexpr int64_t kSmall = 1 << 17;  // multiplications below which a fork-join costs more than it saves
  if (seen * (shape.key_dim + shape.value_dim) < kSmall) return all(0, tasks, 0);
  if (pool.size() == 1 || tasks >= 3 * pool.size()) return pool.share(tasks, 1, all);

  if (int64_t(plan.parts.size()) < part_count * ld) plan.parts.resize(std::size_t(part_count * ld));
  float* at = plan.parts.data();
  for (Work& work : plan.tasks) {
    work.part = at;
    for (int64_t segment = 0; segment < segments_of(work.longest); ++segment) {
      plan.pieces.push_back({work.task, work.longest, segment, at});
      at += work.task.row_count * work.task.head_count * ld;
    }
  }
  // One run of segments for each thread, as a segment calls for the memory of the one after it.
  pool.split(int64_t(plan.pieces.size()), 1, [&](int64_t begin, int64_t end, int) {
    float* const buffer = scratch(kernel_floats);
    for (int64_t i = begin; i < end; ++i) {
      const Work& piece = plan.pieces[std::size_t(i)];
      const bool goes_on = i + 1 < end && piece.segment + 1 < segments_of(piece.longest);
      table.attention_segment(piece.task, piece.segment, {i > begin && piece.segment > 0, goes_on}, piece.part, buffer);
    }
  });
  pool.split(count * shape.heads, 1, [&](int64_t begin, int64_t end, int) {
    float* const whole = scratch(ld);
    int64_t index = 0;
    for (const Work& work : plan.tasks) {
      const int64_t queries = work.task.row_count * work.task.head_count;
      for (int64_t q = std::max<int64_t>(0, begin - index); q < std::min(queries, end - index); ++q) {
        begin_part(whole, ld);
        const int64_t segments = segments_of(work.task.rows[q / work.task.head_count].length);
        for (int64_t s = 0; s < segments; ++s) table.join_part(whole, work.part + (s * queries + q) * ld, shape.value_dim);
        write_result(table, work.task, q, whole);
      }
      index += queries;
    }
  });
}

}  // namespace sonde::kernels
