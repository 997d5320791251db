// Splits products over the threads by rows of W.
#include <algorithm>

#include "kernels/kernels.h"
#include "kernels/scratch.h"
#include "kernels/table.h"
#include "tensor/types.h"

namespace sonde {
namespace {

using kernels::MatmulTask;

int index_of(const Type* type) { return int(type - all_types().data()); }

MatmulTask task_of(const Product& p) {
  MatmulTask t{};
  const Matrix& w = p.w;
  t.type = index_of(w.type);
  t.unpack = kernels::table().unpack[t.type];
  t.data = w.data;
  t.rows = w.rows, t.cols = w.cols, t.row_bytes = w.row_bytes;
  t.block = w.type->block, t.block_bytes = w.type->bytes;
  if (w.scales != nullptr) {
    t.scales = w.scales;
    t.unpack_scale = kernels::table().unpack[index_of(w.scale_type)];
    t.scale_bytes = w.scale_type->bytes, t.scale_block = w.scale_block, t.scale_cols = w.scale_cols;
  }
  t.x = p.x, t.m = p.m, t.ldx = p.ldx, t.y = p.y, t.ldy = p.ldy, t.bias = p.bias;
  return t;
}

// Below so many multiplications a fork-join costs more than it saves.
constexpr int64_t kSmall = 1 << 15;

}  // namespace

void matmul(ThreadPool& pool, std::span<const Product> products) {
  const kernels::KernelTable& table = kernels::table();
  // Rows of all products stand in one line, cut into units of `grain` rows; no unit crosses a product.
  constexpr int64_t kInline = 64;
  MatmulTask few[kInline];
  int64_t few_units[kInline + 1];
  std::vector<MatmulTask> many;
  std::vector<int64_t> many_units;
  MatmulTask* tasks = few;
  int64_t* units = few_units;
  const int64_t count = int64_t(products.size());
  if (count > kInline) {
    many.resize(products.size()), many_units.resize(products.size() + 1);
    tasks = many.data(), units = many_units.data();
  }
  int64_t work = 0, rows = 0, most = 0, floats = 0;
  for (int64_t i = 0; i < count; ++i) {
    tasks[i] = task_of(products[std::size_t(i)]);
    work += tasks[i].rows * tasks[i].cols * tasks[i].m;
    rows += tasks[i].m > 0 ? tasks[i].rows : 0;
    most = std::max(most, tasks[i].m);
    floats = std::max(floats, table.matmul_scratch(tasks[i].m, tasks[i].cols));
  }
  if (rows == 0) return;
  const int64_t threads = pool.size();
  // About eight units a thread, whole register tiles, no more than a panel.
  int64_t grain = (rows / (threads * 8) + 7) / 8 * 8;
  grain = std::clamp<int64_t>(grain, 8, most > 8 ? table.matmul_grain : 256);
  units[0] = 0;
  for (int64_t i = 0; i < count; ++i) units[i + 1] = units[i] + (tasks[i].m > 0 ? (tasks[i].rows + grain - 1) / grain : 0);

  const auto compute = [&](int64_t begin, int64_t end, int) {
    float* buffer = kernels::scratch(floats);
    int64_t i = std::upper_bound(units, units + count + 1, begin) - units - 1;
    while (begin < end) {
      const int64_t stop = std::min(end, units[i + 1]);
      if (begin < stop) {
        table.matmul(tasks[i], (begin - units[i]) * grain, std::min((stop - units[i]) * grain, tasks[i].rows), buffer);
        begin = stop;
      }
      ++i;
    }
  };
  if (threads == 1 || work < kSmall) return compute(0, units[count], 0);
  pool.share(units[count], 1, compute);
}

void matmul(ThreadPool& pool, const Matrix& w, const float* x, int64_t m, int64_t ldx, float* y, int64_t ldy,
            const float* bias) {
  const Product product{w, x, m, ldx, y, ldy, bias};
  matmul(pool, std::span(&product, 1));
}

void unpack_rows(const Matrix& w, int64_t first, int64_t count, float* out) {
  const kernels::KernelTable& table = kernels::table();
  const kernels::Unpack unpack = table.unpack[index_of(w.type)];
  for (int64_t r = first; r < first + count; ++r, out += w.cols) {
    unpack(w.data + r * w.row_bytes, w.cols / w.type->block, out);
    if (w.scales == nullptr) continue;
    const std::byte* scales = w.scales + r / w.scale_block * w.scale_cols * w.scale_type->bytes;
    for (int64_t c = 0; c * w.scale_block < w.cols; ++c) {
      float scale;
      table.unpack[index_of(w.scale_type)](scales + c * w.scale_type->bytes, 1, &scale);
      const int64_t end = std::min(w.cols, (c + 1) * w.scale_block);
      for (int64_t k = c * w.scale_block; k < end; ++k) out[k] *= scale;
    }
  }
}

}  // namespace sonde
