// BF16 weights times x rounded to BF16, where the instruction set has products of pairs.
#include <cmath>
#include <utility>

#include "kernels/common.h"
#include "kernels/truth.h"

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
        ASSERT_NO_FATAL_FAILURE(expect_within(pair_truth(view, x, m, ldx, b), y, m, ldy)) << cols << " columns";
      }
    }
  }
}

// Magnitudes from where products are flushed to zero to where sums of them just fit, and what is denormal.
TEST_P(Pairs, AgreeWithReferenceAtTheEndsOfTheRange) {
  ThreadPool pool(2);
  constexpr std::pair<int, int> kExponents[] = {{58, 58},     {120, -4},   {-4, 120},   {-60, -62},
                                                {-125, 100}, {100, -125}, {-125, -125}};
  for (const auto& [of_w, of_x] : kExponents) {
    Random random(uint64_t(of_w + 1000 * of_x));
    const auto draw = [&](int64_t n, int exponent) {
      std::vector<float> values;
      for (int64_t i = 0; i < n; ++i) {
        values.push_back(std::ldexp(float(random.normal()), exponent - int(random.next_u32() % 4)));
      }
      return rounded_to_bf16(values);
    };
    for (int64_t cols : {3, 70, 547}) {
      const int64_t rows = 35, ldy = rows + 1;
      OwnedMatrix w = random_matrix(*bf16(), rows, cols, 1);
      to_bf16(draw(rows * cols, of_w).data(), rows * cols, w.bytes.data());
      for (int64_t m : {1, 2, 6, 7, 17}) {
        const std::vector<float> x = draw(m * cols, of_x);
        std::vector<float> y(std::size_t(m * ldy), NAN);
        matmul(pool, by_pairs(w), x.data(), m, cols, y.data(), ldy);
        ASSERT_NO_FATAL_FAILURE(expect_within(pair_truth(by_pairs(w), x, m, cols, nullptr), y, m, ldy))
            << cols << " columns, 2^" << of_w << " by 2^" << of_x;
      }
    }
  }
}

// Products beyond the range, all of one sign: infinite in any order of adding.
TEST_P(Pairs, OverflowToInfinity) {
  ThreadPool pool(1);
  const int64_t rows = 35, cols = 70;
  OwnedMatrix w = random_matrix(*bf16(), rows, cols, 1);
  to_bf16(std::vector<float>(std::size_t(rows * cols), 0x1.fep127f).data(), rows * cols, w.bytes.data());
  for (int64_t m : {1, 2, 6, 7, 17}) {
    std::vector<float> x(std::size_t(m * cols)), y(std::size_t(m * rows));
    for (int64_t i = 0; i < m; ++i) std::fill_n(x.begin() + i * cols, cols, i % 2 == 0 ? 4.0f : -0x1.fep127f);
    matmul(pool, by_pairs(w), x.data(), m, cols, y.data(), rows);
    for (int64_t k = 0; k < m * rows; ++k) {
      ASSERT_EQ(y[std::size_t(k)], k / rows % 2 == 0 ? INFINITY : -INFINITY) << "m " << m;
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
