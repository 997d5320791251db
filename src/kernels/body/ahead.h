// Calling for memory ahead of the arithmetic.
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

// Lines of rows that will be needed, part by part in the order in which they are read: a few are called for in each step of the
// arithmetic, so that memory works meanwhile. Runs: so many rows of a part, far apart, come at once, each run a row further on,
// so that they do not stand at the same place of a page. An Intel Xeon reads faster so, and more lies in the second-level cache
// before it is asked for, from where it goes on into the first.
template <int Runs>
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
  SONDE_INLINE void spread(int64_t count, int64_t steps) { lines = steps > 0 ? (count + steps - 1) / steps : 0; }
};
template <int Runs>
SONDE_INLINE void call_lines(Ahead<Runs>& a, int64_t lines) {
  while (lines > 0 && a.part < a.part_count) {
    const typename Ahead<Runs>::Part& p = a.parts[a.part];
    const int64_t run = (p.count + Runs - 1) / Runs;  // rows
    int64_t at = a.at;
    for (; lines > 0 && at < p.end; at += 32) {
      for (int64_t first = 0, i = 0; first < p.count; first += run, ++i, --lines) {
        const int64_t rows = p.count - first < run ? p.count - first : run, row = a.row + i;
        __builtin_prefetch(p.rows[first + (row < rows ? row : row % rows)] + at, 0, Runs > 1 ? 3 : 2);
      }
    }
    a.at = at;
    if (at < p.end) return;
    a.at = p.first;
    if (++a.row < run) continue;
    a.row = 0;
    if (++a.part < a.part_count) a.at = a.parts[a.part].first;
  }
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
