// Summaries of what a product has just computed.
#pragma once

#include <algorithm>

#include "kernels/kernels.h"
#include "kernels/table.h"

namespace sonde::kernels {

struct Computed {
  const float* y;
  int64_t m, ldy, rows;
  const Summaries* summaries;

  Computed() = default;
  explicit Computed(const Product& p) : y(p.y), m(p.m), ldy(p.ldy), rows(p.w.rows), summaries(p.summaries) {}
  // Rows [begin, end) of w; multiples of a block, but for the last.
  void summarise(int64_t begin, int64_t end) const {
    if (summaries == nullptr || begin >= end) return;
    const int64_t blocks = summary_blocks(rows), at = begin / kSummaryBlock;
    for (int64_t i = 0; i < m; ++i) {
      table().summarise(y + i * ldy + begin, std::min(end, rows) - begin, summaries->factors[i],
                        summaries->most + i * blocks + at, summaries->total + i * blocks + at);
    }
  }
};

}  // namespace sonde::kernels
