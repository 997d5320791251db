// Products in F32, split over the threads by rows of W.
#include <algorithm>

#include "base/memory.h"
#include "kernels/computed.h"
#include "kernels/products.h"
#include "kernels/scratch.h"

namespace sonde {
namespace kernels {
namespace {

// Whose x stand in order.
MatmulTask with_x(const Matrix& w, const Product& p) {
  MatmulTask t = task_of(w);
  t.x = p.x, t.m = p.m, t.ldx = p.ldx, t.y = p.y, t.ldy = p.ldy, t.bias = p.bias;
  return t;
}

// The same products with x of those that name its rows laid side by side, once where neighbours name the same.
std::span<const Product> with_rows_in_order(ThreadPool& pool, std::span<const Product> products) {
  if (std::none_of(products.begin(), products.end(), [](const Product& p) { return p.rows != nullptr; })) return products;
  thread_local std::vector<Product> plain;
  thread_local AlignedVector<float> gathered;
  thread_local std::vector<std::size_t> at;  // in it, of each product's rows
  plain.assign(products.begin(), products.end()), at.assign(products.size(), 0);
  const Product* before = nullptr;
  std::size_t floats = 0, begin = 0;
  for (std::size_t i = 0; i < products.size(); ++i) {
    const Product& p = products[i];
    if (p.rows == nullptr) continue;
    const bool same = before != nullptr && before->x == p.x && before->ldx == p.ldx && before->rows == p.rows &&
                      before->m == p.m && before->w.cols == p.w.cols;
    if (!same) begin = floats, floats += std::size_t(p.m * p.w.cols);
    at[i] = begin, before = &p;
  }
  if (gathered.size() < floats) gathered.resize(floats);
  std::size_t done = 0;
  for (std::size_t i = 0; i < products.size(); ++i) {
    const Product& from = products[i];
    if (from.rows == nullptr) continue;
    float* const to = gathered.data() + at[i];
    plain[i].x = to, plain[i].ldx = from.w.cols, plain[i].rows = nullptr;
    if (at[i] < done) continue;  // there already
    done = at[i] + std::size_t(from.m * from.w.cols);
    pool.split(from.m, std::max<int64_t>(1, kSmall / from.w.cols), [&](int64_t first, int64_t last, int) {
      for (int64_t r = first; r < last; ++r) std::copy_n(from.x + from.rows[r] * from.ldx, from.w.cols, to + r * from.w.cols);
    });
  }
  return plain;
}

struct ExactTask {
  MatmulTask w, up;  // up without data: none
  Computed computed;
};

}  // namespace

MatmulTask task_of(const Matrix& w) {
  MatmulTask t{};
  t.type = index_of(w.type);
  t.unpack = table().unpack[t.type];
  t.data = w.data;
  t.rows = w.rows, t.cols = w.cols, t.row_bytes = w.row_bytes, t.block = w.type->block, t.block_bytes = w.type->bytes;
  if (w.scales != nullptr) {
    t.scales = w.scales;
    t.unpack_scale = table().unpack[index_of(w.scale_type)];
    t.scale_bytes = w.scale_type->bytes, t.scale_block = w.scale_block, t.scale_cols = w.scale_cols;
  }
  return t;
}

void matmul_exact(ThreadPool& pool, std::span<const Product> given) {
  const KernelTable& table = kernels::table();
  const std::span<const Product> products = with_rows_in_order(pool, given);
  thread_local std::vector<ExactTask> tasks;
  tasks.clear();
  int64_t work = 0, rows = 0, most = 0, most_gated = 0, floats = 0, least = 8;
  for (const Product& p : products) {
    if (p.m == 0) continue;
    tasks.push_back({with_x(p.w, p), p.up ? with_x(p.up, p) : MatmulTask{}, Computed(p)});
    if (p.summaries != nullptr) least = kSummaryBlock;
    const MatmulTask& t = tasks.back().w;
    work += t.rows * t.cols * t.m * (p.up ? 2 : 1);
    rows += t.rows;
    most = std::max(most, t.m);
    if (p.up) most_gated = std::max(most_gated, t.m);
    floats = std::max(floats, table.matmul_scratch(t.m, t.cols));
  }
  if (rows == 0) return;
  const int64_t threads = pool.size(), count = int64_t(tasks.size());
  // About eight units a thread, whole register tiles, no more than a panel.
  int64_t grain = (rows / (threads * 8) + least - 1) / least * least;
  grain = std::clamp<int64_t>(grain, least, most > 8 ? table.matmul_grain : 256);
  Units units(count);
  for (int64_t i = 0; i < count; ++i) units.set(i, (tasks[std::size_t(i)].w.rows + grain - 1) / grain);

  const int64_t ups = (floats + 15) / 16 * 16;  // where they stand in the scratch: a unit's rows, of each token
  // While the caches hold both.
  const auto gated = [&](const ExactTask& t, int64_t row, int64_t end, float* buffer) {
    MatmulTask up = t.up;
    up.y = buffer + ups, up.ldy = end - row, up.first = row;
    table.matmul(t.w, row, end, buffer), table.matmul(up, row, end, buffer);
    for (int64_t i = 0; i < up.m; ++i) {
      float* const y = t.w.y + i * t.w.ldy + row;
      table.silu_mul(y, up.y + i * up.ldy, y, up.ldy);
    }
  };
  const ExactTask* const all = tasks.data();
  const auto compute = [&](int64_t begin, int64_t end, int) {
    float* const buffer = scratch(ups + most_gated * grain);
    units.each(begin, end, [&](int64_t i, int64_t first, int64_t last) {
      const ExactTask& t = all[i];
      const int64_t row_end = std::min(last * grain, t.w.rows);
      if (t.up.data == nullptr) {
        table.matmul(t.w, first * grain, row_end, buffer);
        return t.computed.summarise(first * grain, row_end);
      }
      for (int64_t row = first * grain; row < row_end; row += grain) {
        gated(t, row, std::min(row + grain, row_end), buffer);
      }
    });
  };
  if (threads == 1 || work < kSmall) return compute(0, units.total(), 0);
  if (most <= kFew) return pool.share_parts(units.total(), 1, compute);
  pool.share(units.total(), 1, compute);
}

}  // namespace kernels

void unpack_rows(const Matrix& w, int64_t first, int64_t count, float* out) {
  const kernels::KernelTable& table = kernels::table();
  const kernels::Unpack unpack = table.unpack[kernels::index_of(w.type)];
  for (int64_t r = first; r < first + count; ++r, out += w.cols) {
    unpack(w.data + r * w.row_bytes, w.cols / w.type->block, out);
    if (w.scales == nullptr) continue;
    const std::byte* scales = w.scales + r / w.scale_block * w.scale_cols * w.scale_type->bytes;
    for (int64_t c = 0; c * w.scale_block < w.cols; ++c) {
      float scale;
      table.unpack[kernels::index_of(w.scale_type)](scales + c * w.scale_type->bytes, 1, &scale);
      const int64_t end = std::min(w.cols, (c + 1) * w.scale_block);
      for (int64_t k = c * w.scale_block; k < end; ++k) out[k] *= scale;
    }
  }
}

}  // namespace sonde
