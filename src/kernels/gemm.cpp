// Splits general products over the threads, and the form of sets without tiles: both operands are laid in rows of k
// values and go to the products that weights go to.
#include "kernels/gemm.h"

#include <algorithm>

#include "base/memory.h"
#include "kernels/scratch.h"
#include "kernels/table.h"
#include "tensor/types.h"

namespace sonde {
namespace {

using kernels::GemmForm;
using kernels::GemmOperand;
using kernels::GemmPart;
using kernels::GemmTask;

constexpr int64_t kRows = 1024;        // of C that share a pass over op(B), at most
constexpr int64_t kColumns = 256;      // of C that a thread takes at once, at most: sums of 1 MiB with so many rows
constexpr int64_t kPanel = 512 << 10;  // bytes of op(B)^T in rows, which stay in the second-level cache
constexpr int64_t kSmall = 1 << 15;    // multiplications; below so many a fork-join costs more than it saves

int64_t rounded_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// --- in rows ------------------------------------------------------------------------------------------------------
// Sums in pairs of BF16 whose rows stand as they are (body/pairs.h); tiles have a form of their own.
bool rows_of_pairs() { return kernels::table().pairs != nullptr && !kernels::table().pair_tiles; }
bool in_place(const GemmOperand& o) { return !o.across && !rows_of_pairs(); }
int64_t row_bytes(const GemmOperand& o) {
  if (in_place(o)) return o.ld * 4;
  return rows_of_pairs() ? rounded_up(o.cols, 32) * 2 : o.cols * 4;
}

// Rows [row, row_end) of an operand that is across, with stride o.cols.
void transpose(const GemmOperand& o, int64_t row, int64_t row_end, float* out) {
  constexpr int64_t kBlock = 16;
  for (int64_t r = row; r < row_end; r += kBlock) {
    const int64_t r_end = std::min(r + kBlock, row_end);
    for (int64_t k = 0; k < o.cols; k += kBlock) {
      const int64_t k_end = std::min(k + kBlock, o.cols);
      for (int64_t i = r; i < r_end; ++i) {
        for (int64_t j = k; j < k_end; ++j) out[(i - row) * o.cols + j] = o.at[j * o.ld + i];
      }
    }
  }
}

// Rows [row, row_end), not in_place(), as the product takes them; scratch: 16 * o.cols floats.
void lay_rows(const GemmOperand& o, int64_t row, int64_t row_end, std::byte* out, float* scratch) {
  if (!rows_of_pairs()) return transpose(o, row, row_end, reinterpret_cast<float*>(out));
  for (int64_t end; row < row_end; row = end, out += 16 * row_bytes(o)) {
    end = std::min(row + 16, row_end);
    if (o.across) transpose(o, row, end, scratch);
    const float* const x = o.across ? scratch : o.at + row * o.ld;
    const int64_t ldx = o.across ? o.cols : o.ld;
    kernels::table().round_pairs({x, nullptr, end - row, ldx, o.cols, 0, 1, false, true, out}, 0, end - row);
  }
}

int64_t packed_bytes(const GemmOperand& a) { return in_place(a) ? 0 : a.rows * row_bytes(a); }
void pack(const GemmTask& t, int64_t row, int64_t row_end, float* scratch) {
  lay_rows(t.a, row, row_end, t.packed + row * row_bytes(t.a), scratch);
}

// Columns of C whose rows of op(B)^T are laid at once.
int64_t panel_columns(const GemmTask& t) {
  return in_place(t.b) ? kColumns : std::clamp(kPanel / row_bytes(t.b) / 16 * 16, int64_t{16}, kColumns);
}
int64_t sixteen_rows(const GemmTask& t) { return rounded_up(16 * t.a.cols, 16); }
int64_t panel_floats(const GemmTask& t) {
  return in_place(t.b) ? 0 : rounded_up(panel_columns(t) * row_bytes(t.b) / 4, 16);
}
int64_t scratch(const GemmTask& t, int64_t rows, int64_t columns) {
  const int64_t sums = t.accumulate ? rows * rounded_up(std::min(columns, panel_columns(t)), 16) : 0;
  return sixteen_rows(t) + panel_floats(t) + sums + kernels::table().matmul_scratch(rows, t.a.cols);
}

void multiply(const GemmTask& t, const GemmPart& part, float* scratch) {
  const kernels::KernelTable& table = kernels::table();
  const int64_t a_bytes = row_bytes(t.a), b_bytes = row_bytes(t.b), m = part.row_end - part.row, k = t.a.cols;
  const std::byte* const rows = in_place(t.a) ? reinterpret_cast<const std::byte*>(t.a.at) : t.packed;
  const std::byte* const a = rows + part.row * a_bytes;
  std::byte* const panel = reinterpret_cast<std::byte*>(scratch + sixteen_rows(t));
  float* const sums = scratch + sixteen_rows(t) + panel_floats(t);
  for (int64_t end, column = part.column; column < part.column_end; column = end) {
    end = std::min(column + panel_columns(t), part.column_end);
    const int64_t n = end - column;
    if (!in_place(t.b)) lay_rows(t.b, column, end, panel, scratch);
    const std::byte* const b = in_place(t.b) ? reinterpret_cast<const std::byte*>(t.b.at) + column * b_bytes : panel;
    float* const c = t.c + part.row * t.ldc + column;
    float* const y = t.accumulate ? sums : c;
    const int64_t ldy = t.accumulate ? n : t.ldc;
    if (rows_of_pairs()) {
      table.pairs({b, n, k, b_bytes, a, m, y, ldy, nullptr}, 0, n, nullptr);
    } else {
      kernels::MatmulTask task{};
      task.type = int(f32() - all_types().data()), task.unpack = table.unpack[task.type];
      task.data = b, task.rows = n, task.cols = k, task.row_bytes = b_bytes, task.block = 1, task.block_bytes = 4;
      task.x = reinterpret_cast<const float*>(a), task.m = m, task.ldx = a_bytes / 4, task.y = y, task.ldy = ldy;
      table.matmul(task, 0, n, sums + (t.accumulate ? m * rounded_up(n, 16) : 0));
    }
    for (int64_t i = 0; t.accumulate && i < m; ++i) table.add_scaled(c + i * t.ldc, sums + i * n, 1, n);
  }
}

constexpr GemmForm kInRows{packed_bytes, pack, multiply, scratch};

// --- split --------------------------------------------------------------------------------------------------------
const GemmForm& form() { return kernels::table().gemm != nullptr ? *kernels::table().gemm : kInRows; }

// Rows of op(A) at once: packed by all threads, then multiplied by them in parts of C.
void gemm_rows(ThreadPool& pool, const GemmForm& form, const GemmTask& t) {
  const int64_t m = t.a.rows, n = t.b.rows, threads = m * n * t.a.cols < kSmall ? 1 : pool.size();
  // Two strips of sixteen share what is loaded. About four parts a thread: by columns, and by rows where these are few.
  const int64_t columns = std::clamp(rounded_up(n / (threads * 4), 32), int64_t{32}, kColumns);
  const int64_t across = (n + columns - 1) / columns, pairs = (m + 31) / 32;
  const int64_t down = threads == 1 ? 1 : std::clamp(threads * 4 / across, int64_t{1}, pairs);
  const int64_t rows = (pairs + down - 1) / down * 32, floats = form.scratch(t, std::min(rows, m), columns);
  const auto share = [&](int64_t count, auto&& f) {
    if (threads == 1) return f(int64_t{0}, count, 0);
    pool.share(count, 1, f);
  };
  if (t.packed != nullptr) {
    share((m + 15) / 16, [&](int64_t begin, int64_t end, int) {
      form.pack(t, begin * 16, std::min(end * 16, m), kernels::scratch(floats));
    });
  }
  share(across * down, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i / across * rows, column = i % across * columns;
      if (row >= m) break;
      form.multiply(t, {row, std::min(row + rows, m), column, std::min(column + columns, n)}, kernels::scratch(floats));
    }
  });
}

}  // namespace

void gemm(ThreadPool& pool, const Gemm& g) {
  if (g.m == 0 || g.n == 0) return;
  if (g.k == 0) {
    for (int64_t i = 0; i < g.m && !g.accumulate; ++i) std::fill_n(g.c + i * g.ldc, g.n, 0.0f);
    return;
  }
  const GemmOperand a{g.a, g.m, g.k, g.lda, g.trans_a}, b{g.b, g.n, g.k, g.ldb, !g.trans_b};
  const GemmForm& used = form();
  thread_local AlignedVector<std::byte> packed;
  const int64_t groups = (g.m + kRows - 1) / kRows, pairs = (g.m + 31) / 32;
  for (int64_t i = 0; i < groups; ++i) {  // pairs of sixteen rows, evenly
    const int64_t row = pairs * i / groups * 32, row_end = std::min(pairs * (i + 1) / groups * 32, g.m);
    GemmOperand rows = a;
    rows.at += row * (a.across ? 1 : a.ld), rows.rows = row_end - row;
    const int64_t bytes = used.packed_bytes(rows);
    if (int64_t(packed.size()) < bytes) packed.resize(std::size_t(bytes));
    gemm_rows(pool, used, {rows, b, g.c + row * g.ldc, g.ldc, g.accumulate, bytes > 0 ? packed.data() : nullptr});
  }
}

Profile::Arithmetic gemm_arithmetic() {
  return kernels::table().gemm != nullptr || rows_of_pairs() ? Profile::kBf16 : Profile::kF32;
}

}  // namespace sonde
