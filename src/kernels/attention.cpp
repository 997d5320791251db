// Cuts attention into tasks: rows that share their pages times heads that share a key head.
#include <algorithm>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/scratch.h"
#include "kernels/table.h"

namespace sonde {

void attention(ThreadPool& pool, const AttentionShape& shape, std::span<const AttentionRow> rows) {
  if (shape.type == bf16()) return kernels::attention_bf16(pool, shape, rows);
  const kernels::KernelTable& table = kernels::table();
  const int64_t group = shape.heads / shape.key_heads;  // query heads of a key head
  const int64_t threads = pool.size(), count = int64_t(rows.size());
  if (count == 0) return;

  // Tasks as large as a kernel takes them, smaller where that would leave threads idle.
  int64_t heads = std::min(group, kernels::kAttentionQueries);
  int64_t together = std::max<int64_t>(1, kernels::kAttentionQueries / heads);
  const auto tasks_for = [&] { return (count + together - 1) / together * shape.key_heads * ((group + heads - 1) / heads); };
  while (together > 1 && tasks_for() < 2 * threads) together = (together + 1) / 2;
  while (heads > 1 && tasks_for() < threads) heads = (heads + 1) / 2;

  thread_local std::vector<kernels::AttentionTask> mine;
  std::vector<kernels::AttentionTask>& tasks = mine;  // the caller's, whichever thread a task runs on
  tasks.clear();
  int64_t work = 0;
  for (int64_t begin = 0; begin < count;) {
    int64_t end = begin + 1;
    while (end < count && end - begin < together && rows[std::size_t(end)].pages == rows[std::size_t(begin)].pages) ++end;
    for (int64_t key_head = 0; key_head < shape.key_heads; ++key_head) {
      for (int64_t h = 0; h < group; h += heads) {
        tasks.push_back({&shape, &rows[std::size_t(begin)], end - begin, key_head * group + h, std::min(heads, group - h)});
      }
    }
    for (int64_t r = begin; r < end; ++r) work += rows[std::size_t(r)].length;
    begin = end;
  }
  work *= shape.heads * (shape.key_dim + shape.value_dim);
  std::reverse(tasks.begin(), tasks.end());  // in a prefill the last rows see the most tokens: the largest first

  const auto compute = [&](int64_t begin, int64_t end, int) {
    float* buffer = kernels::scratch(table.attention_scratch(shape));
    for (int64_t i = begin; i < end; ++i) table.attention(tasks[std::size_t(i)], buffer);
  };
  constexpr int64_t kSmall = 1 << 15;  // below, a fork-join costs more than it saves
  if (work < kSmall) return compute(0, int64_t(tasks.size()), 0);
  pool.share(int64_t(tasks.size()), 1, compute);
}

}  // namespace sonde
