#include "kernels/pack.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/table.h"
#include "tensor/types.h"

namespace sonde {
namespace {

constexpr int64_t kRows = 16;  // of a strip

// Rows [first, end) have a scale that is not finite.
Error bad_scale(int64_t first, int64_t end) {
  return {Code::kCorrupt, "a scale of the weights is not finite", "", "finite numbers",
          "in rows " + std::to_string(first) + " to " + std::to_string(end - 1),
          "the file is damaged, or was made from a model that had diverged"};
}

// An error where good(strip) is false for one of the strips of rows [first, first + count): names the first of them.
template <class F>
Status every_strip(ThreadPool& pool, int64_t first, int64_t count, F&& good) {
  const int64_t strips = (count + kRows - 1) / kRows;
  std::atomic<int64_t> bad{strips};
  pool.share(strips, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t s = begin; s < end; ++s) {
      if (good(s)) continue;
      for (int64_t seen = bad; s < seen && !bad.compare_exchange_weak(seen, s);) {
      }
    }
  });
  if (bad < strips) return bad_scale(first + bad * kRows, first + std::min((bad + 1) * kRows, count));
  return {};
}

const kernels::StripType& strip_type(const Matrix& w) {
  return kernels::table().strips[w.type - all_types().data()];
}

}  // namespace

int64_t packed_bytes(const Matrix& w) {
  if (!w || w.scales != nullptr) return 0;
  return (w.rows + kRows - 1) / kRows * (w.cols / w.type->block) * strip_type(w).bytes;
}

void use_packed(Matrix& w, const std::byte* at) {
  w.packed = at;
  w.strip_bytes = w.cols / w.type->block * strip_type(w).bytes;
}

Status pack_rows(ThreadPool& pool, const Matrix& w, int64_t first, int64_t count, std::byte* out) {
  const kernels::StripType& type = strip_type(w);
  const int64_t blocks = w.cols / w.type->block;
  const std::byte* const data = w.data + first * w.row_bytes;
  return every_strip(pool, first, count, [&](int64_t s) {
    const std::byte* rows[kRows] = {};
    for (int64_t r = 0; r < kRows && s * kRows + r < count; ++r) rows[r] = data + (s * kRows + r) * w.row_bytes;
    return type.pack(rows, blocks, out + s * blocks * type.bytes);
  });
}

Status check_blocks(ThreadPool& pool, const Matrix& w) {
  constexpr int64_t kValues = 4096;  // at once, in the first-level cache: a multiple of every block
  const kernels::Unpack unpack = kernels::table().unpack[w.type - all_types().data()];
  return every_strip(pool, 0, w.rows, [&](int64_t s) {
    float values[kValues];
    for (int64_t r = s * kRows; r < std::min((s + 1) * kRows, w.rows); ++r) {
      for (int64_t k = 0; k < w.cols; k += kValues) {
        const int64_t n = std::min(kValues, w.cols - k);
        unpack(w.data + r * w.row_bytes + k / w.type->block * w.type->bytes, n / w.type->block, values);
        if (!all_finite(values, n)) return false;
      }
    }
    return true;
  });
}

Status check_scales(const Matrix& w) {
  if (w.scales == nullptr) return {};
  std::vector<float> row(std::size_t(w.scale_cols));
  for (int64_t first = 0; first < w.rows; first += w.scale_block) {
    w.scale_type->unpack(w.scales + first / w.scale_block * w.scale_cols * w.scale_type->bytes, w.scale_cols, row.data());
    if (!std::all_of(row.begin(), row.end(), [](float scale) { return std::isfinite(scale); }))
      return bad_scale(first, std::min(first + w.scale_block, w.rows));
  }
  return {};
}

}  // namespace sonde
