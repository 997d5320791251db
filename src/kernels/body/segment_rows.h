// What a segment of attention is made of: which of its tokens each query sees, and where their records lie.
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

struct SegmentRows {
  int64_t count, longest, most_tokens;  // queries; tokens that one of them sees, of the segment and in all
  int64_t seen[kSegmentQueries];        // tokens of the segment that each sees

  SegmentRows(const AttentionTask& task, int64_t start) : count(task.row_count * task.head_count), longest(0), most_tokens(0) {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t tokens = task.rows[i / task.head_count].length, n = tokens - start;
      if (tokens > most_tokens) most_tokens = tokens;
      seen[i] = n < 0 ? 0 : n < kSegment ? n : kSegment;
      if (seen[i] > longest) longest = seen[i];
    }
  }
};

// f(i, record) for the records of tokens first + i, i below `count`.
template <class F>
SONDE_INLINE void each_record(const AttentionTask& task, int64_t first, int64_t count, F&& f) {
  const AttentionShape& s = *task.shape;
  int64_t page = first / s.page_tokens, slot = first % s.page_tokens;
  for (int64_t j = 0; j < count; slot = 0, ++page) {
    const uint16_t* record = reinterpret_cast<const uint16_t*>(task.rows[0].pages[page]) + slot * s.record;
    const int64_t end = s.page_tokens - slot < count - j ? j + s.page_tokens - slot : count;
    for (; j < end; ++j, record += s.record) f(j, record);
  }
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
