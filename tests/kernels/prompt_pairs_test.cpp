// F16 and F32 weights by pairs of BF16, as the fast path multiplies them at a prompt's rows; on sets without products of
// pairs all rows are exact.
#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/common.h"
#include "kernels/truth.h"

namespace sonde::test {
namespace {

class PromptPairs : public KernelSets {
 protected:
  static bool by_model() { return std::string(GetParam()).starts_with("amx_"); }  // slow
};
SONDE_EVERY_SET(PromptPairs);
INSTANTIATE_TEST_SUITE_P(Models, PromptPairs, testing::Values("amx_model", "amx_trapped"),
                         [](const auto& set) { return std::string(set.param); });

Matrix in_pairs_at_prompts(const OwnedMatrix& w) {
  Matrix m = w.view;
  m.by_pairs = m.as_stored = true;
  return m;
}
Product prompt(const Matrix& w, const std::vector<float>& x, int64_t m, int64_t ldx, std::vector<float>& y,
               int64_t ldy) {
  return {.w = w, .x = x.data(), .m = m, .ldx = ldx, .y = y.data(), .ldy = ldy, .prompt = m};
}

TEST_P(PromptPairs, AgreeWithReference) {
  ThreadPool pool(2);
  for (const Type* type : {f16(), f32()}) {
    for (int64_t cols : {1, 31, 32, 45, 531, 2048}) {
      for (int64_t rows : {1, 7, 53}) {
        const OwnedMatrix stored = random_matrix(*type, rows, cols, uint64_t(rows * 1000 + cols));
        const Matrix w = in_pairs_at_prompts(stored);
        for (int64_t m : {1, 2, 3, 6, 7, 17, 40}) {
          if (by_model() && m % 2 == 0) continue;
          const int64_t ldx = cols + 3, ldy = rows + 1;
          const std::vector<float> x = normals(std::size_t(m * ldx), 7), bias = normals(std::size_t(rows), 8);
          std::vector<float> y(std::size_t(m * ldy), NAN);
          Product product = prompt(w, x, m, ldx, y, ldy);
          product.bias = m % 3 == 0 ? bias.data() : nullptr;
          matmul(pool, std::span(&product, 1));
          ASSERT_NO_FATAL_FAILURE(expect_within(rounded_pair_truth(w, x, m, ldx, product.bias), y, m, ldy))
              << type->name << ", " << cols << " columns";
        }
      }
    }
  }
}

// More of x than the second-level cache holds at once, and more tokens than pass together.
TEST_P(PromptPairs, AgreeWithReferenceInGroupsOfTokens) {
  if (by_model()) GTEST_SKIP() << "too slow";
  ThreadPool pool(2);
  for (auto [rows, cols, m] : {std::tuple<int64_t, int64_t, int64_t>{53, 800, 530}, {5, 16'400, 70}}) {
    const OwnedMatrix stored = random_matrix(*f16(), rows, cols, 9), other = random_matrix(*f16(), rows, cols, 10);
    const Matrix w = in_pairs_at_prompts(stored), up = in_pairs_at_prompts(other);
    const std::vector<float> x = normals(std::size_t(m * cols), 7);
    std::vector<float> y(std::size_t(m * rows), NAN), ups(y), gated(y);
    Product products[] = {prompt(w, x, m, cols, y, rows), prompt(up, x, m, cols, ups, rows),
                          prompt(w, x, m, cols, gated, rows)};
    products[2].up = up;
    matmul(pool, products);
    ASSERT_NO_FATAL_FAILURE(expect_within(rounded_pair_truth(w, x, m, cols, nullptr), y, m, rows));
    silu_mul(pool, y.data(), ups.data(), y.data(), m * rows);
    ASSERT_EQ(std::memcmp(gated.data(), y.data(), y.size() * 4), 0);
  }
}

// From the largest values of either type to its denormals.
TEST_P(PromptPairs, AgreeWithReferenceAtTheEndsOfTheRange) {
  ThreadPool pool(2);
  constexpr std::pair<int, int> kExponents[] = {{58, 58},    {120, -4}, {-4, 120},  {-60, -62}, {-125, 100},
                                                {100, -125}, {-14, 0},  {-24, 100}, {15, 100}};
  for (const Type* type : {f16(), f32()}) {
    for (const auto& [of_w, of_x] : kExponents) {
      if (type == f16() && (of_w > 15 || of_w < -24)) continue;
      Random random(uint64_t(of_w + 1000 * of_x));
      const auto draw = [&](int64_t n, int exponent) {
        std::vector<float> values;
        for (int64_t i = 0; i < n; ++i) {
          const float sign = random.next_u32() % 2 == 0 ? 1.0f : -1.0f;
          const float value = sign * float(1 + random.next_u32() % 1024 / 1024.0);
          values.push_back(std::ldexp(value, exponent - int(random.next_u32() % 4)));
        }
        return values;
      };
      for (int64_t cols : {3, 70, 547}) {
        const int64_t rows = 35, ldy = rows + 1;
        OwnedMatrix stored = random_matrix(*type, rows, cols, 1);
        type->pack(draw(rows * cols, of_w).data(), rows * cols, stored.bytes.data());
        const Matrix w = in_pairs_at_prompts(stored);
        for (int64_t m : {1, 2, 7, 17}) {
          const std::vector<float> x = rounded_to_bf16(draw(m * cols, of_x));
          std::vector<float> y(std::size_t(m * ldy), NAN);
          const Product product = prompt(w, x, m, cols, y, ldy);
          matmul(pool, std::span(&product, 1));
          ASSERT_NO_FATAL_FAILURE(expect_within(rounded_pair_truth(w, x, m, cols, nullptr), y, m, ldy))
              << type->name << ", " << cols << " columns, 2^" << of_w << " by 2^" << of_x;
        }
      }
    }
  }
}

// Rows of answers are the exact product's, those of a prompt the same bits whatever stands beside them and whatever the
// threads; gated, with rows named by number, and beside BF16.
TEST_P(PromptPairs, ArePromptsAlone) {
  ThreadPool one(1), two(2), three(3);
  const int64_t cols = by_model() ? 333 : 1100, rows = by_model() ? 35 : 133, most = by_model() ? 18 : 40;
  for (const Type* type : {f16(), f32()}) {
    const OwnedMatrix stored = random_matrix(*type, rows, cols, 3), other = random_matrix(*type, rows, cols, 4);
    const OwnedMatrix beside = random_matrix(*bf16(), rows, cols, 5);
    const Matrix w = in_pairs_at_prompts(stored), up = in_pairs_at_prompts(other);
    Matrix pairs = beside.view;
    pairs.by_pairs = true;
    ASSERT_EQ(has_prompt_form(w), in_pairs(pairs));
    const std::vector<float> x = normals(std::size_t(most * cols), 4);
    // [0]: as a prompt's row, [1]: as an answer's.
    std::vector<float> truth[2], ups[2], gated[2], of_pairs(std::size_t(most * rows));
    for (int answer = 0; answer < 2; ++answer) {
      for (std::vector<float>* to : {&truth[answer], &ups[answer], &gated[answer]}) to->resize(std::size_t(most * rows));
      for (int64_t i = 0; i < most; ++i) {
        const auto multiply = [&](const Matrix& by, std::vector<float>& y) {
          const Product p{.w = by, .x = &x[std::size_t(i * cols)], .m = 1, .ldx = cols, .y = &y[std::size_t(i * rows)],
                          .ldy = rows, .prompt = 1 - answer};
          matmul(one, std::span(&p, 1));
        };
        multiply(w, truth[answer]), multiply(up, ups[answer]), multiply(pairs, of_pairs);
      }
      silu_mul(one, truth[answer].data(), ups[answer].data(), gated[answer].data(), most * rows);
    }
    std::vector<float> exact(truth[1].size());
    matmul(one, stored.view, x.data(), most, cols, exact.data(), rows);
    ASSERT_EQ(std::memcmp(exact.data(), truth[1].data(), exact.size() * 4), 0) << type->name;
    ASSERT_EQ(truth[0] != truth[1], has_prompt_form(w)) << type->name;
    std::vector<int32_t> turned(std::size_t(most), 0);
    for (int64_t i = 0; i < most; ++i) turned[std::size_t(i)] = int32_t(i * 7 % most);
    for (ThreadPool* pool : {&one, &two, &three}) {
      if (by_model() && pool != &two) continue;
      for (int64_t m = 1; m <= most; ++m) {
        for (int64_t answers : {int64_t(0), int64_t(1), m / 2, m}) {
          if (by_model() && m % 5 > 1) continue;
          std::vector<float> y(std::size_t(m * rows), NAN), z(y), t(y), v(y);
          Product products[] = {prompt(w, x, m, cols, y, rows), prompt(w, x, m, cols, z, rows),
                                prompt(w, x, m, cols, t, rows), prompt(pairs, x, m, cols, v, rows)};
          products[1].up = up, products[2].rows = turned.data();
          for (Product& p : products) p.prompt = m - answers;
          matmul(*pool, products);
          ASSERT_EQ(std::memcmp(v.data(), of_pairs.data(), v.size() * 4), 0) << "beside them, " << m << " rows";
          for (int64_t i = 0; i < m; ++i) {
            const int form = i < answers;
            const auto same = [&](const std::vector<float>& got, const std::vector<float>& right, int64_t of) {
              const float *const a = &got[std::size_t(i * rows)], *const b = &right[std::size_t(of * rows)];
              return std::memcmp(a, b, std::size_t(rows) * 4) == 0;
            };
            ASSERT_TRUE(same(y, truth[form], i)) << type->name << ", " << answers << " of " << m << " answers, row " << i;
            ASSERT_TRUE(same(z, gated[form], i)) << type->name << ", " << answers << " of " << m << " answers, row " << i;
            ASSERT_TRUE(same(t, truth[form], turned[std::size_t(i)])) << type->name << ", row " << i << " of " << m;
          }
        }
      }
    }
  }
}

// NaN of every payload's ends among them.
TEST_P(PromptPairs, WhatIsNotFiniteStaysInItsRowAndToken) {
  ThreadPool pool(2);
  const int64_t rows = 39, cols = 41, m = 19;
  for (const Type* type : {f16(), f32()}) {
    OwnedMatrix stored = random_matrix(*type, rows, cols, 1);
    type->pack(std::vector<float>(std::size_t(rows * cols), 1.5f).data(), rows * cols, stored.bytes.data());
    const auto set = [&](int64_t r, int64_t k, uint32_t bits) {
      std::memcpy(stored.bytes.data() + (r * cols + k) * type->bytes, &bits, std::size_t(type->bytes));
    };
    const bool half = type == f16();
    set(20, 40, half ? 0x7FFF : 0x7FFFFFFF), set(21, 0, half ? 0x7C01 : 0x7F800001), set(36, 3, half ? 0xFC00 : 0xFF800000);
    std::vector<float> x(std::size_t(m * cols), 1.0f), y(std::size_t(m * rows));
    x[std::size_t(5 * cols + 40)] = INFINITY, x[std::size_t(18 * cols)] = NAN;
    const Product product = prompt(in_pairs_at_prompts(stored), x, m, cols, y, rows);
    matmul(pool, std::span(&product, 1));
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t r = 0; r < rows; ++r) {
        const bool finite = i != 5 && i != 18 && r != 20 && r != 21 && r != 36;
        const float got = y[std::size_t(i * rows + r)];
        ASSERT_TRUE(finite ? got == 61.5f : !std::isfinite(got)) << type->name << ", " << i << ", " << r << ": " << got;
      }
    }
  }
}

}  // namespace
}  // namespace sonde::test
