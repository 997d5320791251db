// BF16 weights times x rounded to BF16, where the instruction set has products of pairs.
#include <cmath>

#include "kernels/common.h"

namespace sonde::test {
namespace {

class Pairs : public KernelSets {};
SONDE_EVERY_SET(Pairs);
INSTANTIATE_TEST_SUITE_P(Models, Pairs, testing::Values("amx_model", "amx_trapped"),
                         [](const auto& set) { return std::string(set.param); });

Matrix by_pairs(const OwnedMatrix& w) {
  Matrix m = w.view;
  m.by_pairs = true;
  return m;
}

bool in_pairs(const Matrix& w) { return arithmetic(Product{w, nullptr, 1, 0, nullptr, 0}) == Profile::kBf16; }

// The most roundings that a product meets on its way into y. Lanes sum n / 32 pairs, two roundings a pair, then four
// levels of a tree; by tiles a chain of sixteen, the sum of two, then one for every 32 columns; and the bias.
double roundings(int64_t cols) {
  const bool tiles = kernel_set() == "amx" ? cpu_features().amx_bf16 : kernel_set().starts_with("amx");
  return double(tiles ? (cols + 31) / 32 + 18 : cols / 16 + 8);
}

// A denormal counts as 0 on its way.
TEST_P(Pairs, AgreeWithReference) {
  ThreadPool pool(2);
  for (int64_t cols : {1, 31, 32, 45, 531, 2048}) {
    for (int64_t rows : {1, 7, 53}) {
      const OwnedMatrix w = random_matrix(*bf16(), rows, cols, uint64_t(rows * 1000 + cols));
      const Matrix view = by_pairs(w);
      for (int64_t m : {1, 2, 3, 6, 7, 17}) {
        const int64_t ldx = cols + 3, ldy = rows + 1;
        const std::vector<float> x = normals(std::size_t(m * ldx), 7), bias = normals(std::size_t(rows), 8);
        const float* const b = m % 2 == 0 ? bias.data() : nullptr;
        std::vector<float> y(std::size_t(m * ldy), NAN);
        matmul(pool, view, x.data(), m, ldx, y.data(), ldy, b);
        const std::vector<float> seen = in_pairs(view) ? rounded_to_bf16(x) : x;
        const reference::Bounded truth = reference::matmul(w.view, seen.data(), m, ldx, b);
        for (int64_t i = 0; i < m; ++i) {
          for (int64_t r = 0; r < rows; ++r) {
            const std::size_t at = std::size_t(i * rows + r);
            ASSERT_LE(std::abs(double(y[std::size_t(i * ldy + r)]) - truth.value[at]),
                      roundings(cols) * (kEps * truth.bound[at] + 0x1p-126))
                << rows << "x" << cols << ", m " << m << ": token " << i << ", row " << r;
          }
          ASSERT_TRUE(std::isnan(y[std::size_t(i * ldy + rows)])) << "wrote beyond the row";
        }
      }
    }
  }
}

TEST_P(Pairs, AreTheSameBitsForAnyTokensThreadsAndProducts) {
  ThreadPool one(1), two(2);
  const bool by_model = std::string(GetParam()).starts_with("amx_");  // slow
  const int64_t cols = 1100, rows = by_model ? 53 : 277, m = by_model ? 33 : 160;
  const OwnedMatrix stored = random_matrix(*bf16(), rows, cols, 3), other = random_matrix(*bf16(), rows, cols, 4);
  const OwnedMatrix bytes = random_matrix(*type_by_name("F8_E4M3"), rows, cols, 5);
  const Matrix w = by_pairs(stored), up = by_pairs(other);
  Matrix in_bytes = bytes.view;
  in_bytes.by_values = true;
  const std::vector<float> x = normals(std::size_t(m * cols), 4);
  std::vector<float> truth(std::size_t(m * rows)), ups(truth.size()), gated(truth.size()), of_bytes(truth.size());
  for (int64_t i = 0; i < m; ++i) {
    const float* const token = &x[std::size_t(i * cols)];
    matmul(one, w, token, 1, cols, &truth[std::size_t(i * rows)], rows);
    matmul(one, up, token, 1, cols, &ups[std::size_t(i * rows)], rows);
    matmul(one, in_bytes, token, 1, cols, &of_bytes[std::size_t(i * rows)], rows);
  }
  silu_mul(one, truth.data(), ups.data(), gated.data(), m * rows);
  for (ThreadPool* pool : {&one, &two}) {
    for (int64_t tokens : {1, 2, 3, 5, 6, 7, 12, 13, 33, 64, 145, 160}) {
      if (tokens > m) break;
      std::vector<float> y(std::size_t(tokens * rows)), z(y.size()), v(y.size());
      const Product all[] = {{w, x.data(), tokens, cols, y.data(), rows, nullptr, {}},
                             {in_bytes, x.data(), tokens, cols, v.data(), rows, nullptr, {}},
                             {w, x.data(), tokens, cols, z.data(), rows, nullptr, up}};
      matmul(*pool, all);
      ASSERT_EQ(std::memcmp(y.data(), truth.data(), y.size() * 4), 0) << "m " << tokens;
      ASSERT_EQ(std::memcmp(v.data(), of_bytes.data(), v.size() * 4), 0) << "beside them, m " << tokens;
      ASSERT_EQ(std::memcmp(z.data(), gated.data(), z.size() * 4), 0) << "gated, m " << tokens;
    }
  }
}

TEST_P(Pairs, NonFiniteInputsStayInTheirPlace) {
  ThreadPool pool(2);
  const int64_t cols = 96, rows = 9, m = 8;
  const OwnedMatrix w = random_matrix(*bf16(), rows, cols, 21);
  std::vector<float> x = normals(std::size_t(m * cols), 22), y(std::size_t(m * rows));
  x[std::size_t(cols + 5)] = NAN, x[std::size_t(2 * cols + 3)] = INFINITY;
  matmul(pool, by_pairs(w), x.data(), m, cols, y.data(), rows);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t r = 0; r < rows; ++r) EXPECT_EQ(std::isfinite(y[std::size_t(i * rows + r)]), i != 1 && i != 2) << i;
  }
}

}  // namespace
}  // namespace sonde::test
