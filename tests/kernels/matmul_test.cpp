#include <cmath>

#include "kernels/common.h"

namespace sonde::test {
namespace {

class Matmul : public KernelSets {};
SONDE_EVERY_SET(Matmul);

// Lane sums of n / 16 fused steps, four tree levels, one bias: at most n / 16 + 6 roundings, each relative to the bound,
// or, among denormals, half of the smallest one.
double tolerance(int64_t n, double bound) { return double(n / 16 + 6) * (kEps * bound + 0x1p-150); }

void expect_near_reference(const Matrix& w, int64_t m, bool with_bias) {
  ThreadPool pool(2);
  const int64_t ldx = w.cols + 3, ldy = w.rows + 1;
  const std::vector<float> x = normals(std::size_t(m * ldx), 7), bias = normals(std::size_t(w.rows), 8);
  std::vector<float> y(std::size_t(m * ldy), NAN);
  matmul(pool, w, x.data(), m, ldx, y.data(), ldy, with_bias ? bias.data() : nullptr);
  const reference::Bounded truth = reference::matmul(w, x.data(), m, ldx, with_bias ? bias.data() : nullptr);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t r = 0; r < w.rows; ++r) {
      const std::size_t at = std::size_t(i * w.rows + r);
      ASSERT_LE(std::abs(double(y[std::size_t(i * ldy + r)]) - truth.value[at]), tolerance(w.cols, truth.bound[at]))
          << w.type->name << " " << w.rows << "x" << w.cols << ", m " << m << ": token " << i << ", row " << r;
    }
    ASSERT_TRUE(std::isnan(y[std::size_t(i * ldy + w.rows)])) << "wrote beyond the row";
  }
}

TEST_P(Matmul, AgreesWithReferenceForEveryType) {
  for (const Type* type : weight_types()) {
    const int64_t b = type->block;
    const int64_t widths[] = {b, b == 1 ? 37 : 3 * b, b == 1 ? 531 : (512 / b + 1) * b};
    for (int64_t cols : widths) {
      for (int64_t rows : {1, 7, 53}) {
        const OwnedMatrix w = random_matrix(*type, rows, cols, uint64_t(rows * 1000 + cols));
        for (int64_t m : {1, 2, 3, 5, 8, 17}) expect_near_reference(w.view, m, m % 2 == 0);
        if (HasFatalFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace sonde::test
