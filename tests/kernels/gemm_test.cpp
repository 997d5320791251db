// Products of training, C = op(A) op(B), in every form of the operands and by every instruction set.
#include "kernels/gemm.h"

#include <cmath>

#include "kernels/common.h"

namespace sonde::test {
namespace {

// Operands with gaps between the stored rows, and C before and after.
struct Case {
  Gemm g;
  std::vector<float> a, b, c, before;

  Case(int64_t m, int64_t n, int64_t k, bool trans_a, bool trans_b, bool accumulate, uint64_t seed, int64_t gap = 0) {
    const int64_t lda = (trans_a ? m : k) + gap, ldb = (trans_b ? k : n) + 2 * gap;
    g = {nullptr, nullptr, nullptr, m, n, k, lda, ldb, n + gap, trans_a, trans_b, accumulate};
    a = normals(stored(trans_a ? k : m, trans_a ? m : k, g.lda), seed);
    b = normals(stored(trans_b ? n : k, trans_b ? k : n, g.ldb), seed + 1);
    c = before = normals(stored(m, n, g.ldc), seed + 2);
  }
  // Nothing stands behind the last row's last value.
  static std::size_t stored(int64_t rows, int64_t cols, int64_t ld) {
    return std::size_t(rows > 0 && cols > 0 ? (rows - 1) * ld + cols : 0);
  }
  std::size_t at_a(int64_t i, int64_t k) const { return std::size_t(g.trans_a ? k * g.lda + i : i * g.lda + k); }
  std::size_t at_b(int64_t k, int64_t j) const { return std::size_t(g.trans_b ? j * g.ldb + k : k * g.ldb + j); }
  std::size_t at_c(int64_t i, int64_t j) const { return std::size_t(i * g.ldc + j); }

  void run(ThreadPool& pool) {
    g.a = a.data(), g.b = b.data(), g.c = c.data();
    gemm(pool, g);
  }

  // The bound of gemm.h, C's own rounding, and a denormal as 0 for each value and sum on the way.
  void compare() const {
    const bool pairs = gemm_arithmetic() == Profile::kBf16;
    const double k = double(g.k), roundings = kEps * (pairs ? (k / 16 + 20) * (1 + 0x1p-7) : k / 16 + 5);
    for (int64_t i = 0; i < g.m; ++i) {
      for (int64_t j = 0; j < g.n; ++j) {
        double sum = 0, magnitude = 0, values = 1;
        for (int64_t l = 0; l < g.k; ++l) {
          const double x = double(a[at_a(i, l)]), y = double(b[at_b(l, j)]);
          sum += x * y, magnitude += std::abs(x * y), values += 2 + std::abs(x) + std::abs(y);
        }
        const double start = g.accumulate ? double(before[at_c(i, j)]) : 0.0;
        const double bound = magnitude * (roundings + (pairs ? 0x1p-7 : 0.0));
        const double last = g.accumulate ? kEps * (std::abs(start) + std::abs(sum) + bound) : 0.0;
        ASSERT_LE(std::abs(double(c[at_c(i, j)]) - start - sum), bound + last + 0x1p-126 * values)
            << g.m << "x" << g.n << "x" << g.k << (g.trans_a ? " T" : " N") << (g.trans_b ? "T" : "N")
            << (g.accumulate ? " +=: " : " =: ") << i << ", " << j;
      }
    }
    for (std::size_t at = 0; at < c.size(); ++at) {
      if (int64_t(at) % g.ldc < g.n) continue;
      ASSERT_EQ(c[at], before[at]) << "wrote beyond the row";
    }
  }
};

template <class F>
void each_form(F&& f) {
  for (int form = 0; form < 8; ++form) f(form % 2 == 1, form / 2 % 2 == 1, form / 4 == 1);
}

class Gemms : public KernelSets {
 protected:
#if defined(__x86_64__)
  void SetUp() override {
    KernelSets::SetUp();
    const std::string set = GetParam();
    if (!IsSkipped() && (set == "amx_model" || set == "amx_trapped" || (set == "amx" && cpu_features().amx_bf16))) {
      ASSERT_NE(kernels::table().gemm, nullptr) << "not by tiles";
    }
  }
  void TearDown() override {
    EXPECT_EQ(amx::fault(), nullptr);
    EXPECT_EQ(amx::holders(), 0);
    KernelSets::TearDown();
  }
#endif
  ThreadPool pool_{2};
};
SONDE_EVERY_SET(Gemms);
INSTANTIATE_TEST_SUITE_P(Models, Gemms, testing::Values("amx_model", "amx_trapped"),
                         [](const auto& set) { return std::string(set.param); });

TEST_P(Gemms, AgreeWithADoubleProduct) {
  const int64_t shapes[][3] = {{1, 1, 1},    {1, 16, 32},  {16, 1, 31},  {16, 16, 32}, {17, 15, 33},  {31, 33, 64},
                               {32, 32, 95}, {33, 48, 16}, {5, 257, 40}, {129, 7, 70}, {48, 65, 257}, {40, 34, 545}};
  uint64_t seed = 1;
  for (const auto& shape : shapes) {
    each_form([&](bool trans_a, bool trans_b, bool accumulate) {
      for (int64_t gap : {0, 3}) {
        Case c(shape[0], shape[1], shape[2], trans_a, trans_b, accumulate, ++seed, gap);
        c.run(pool_);
        c.compare();
      }
    });
  }
}

TEST_P(Gemms, AgreeWithADoubleProductInRandomShapes) {
  Random random(7);
  for (int i = 0; i < 40; ++i) {
    const auto size = [&](uint32_t most) { return int64_t(1 + random.next_u32() % most); };
    const uint32_t bits = random.next_u32();
    Case c(size(90), size(90), size(300), bits & 1, bits & 2, bits & 4, uint64_t(1000 + 3 * i), bits >> 3 & 7);
    c.run(pool_);
    ASSERT_NO_FATAL_FAILURE(c.compare());
  }
}

// More rows than pass together, more columns than a thread takes at once, more of k than a span; nothing of it even.
TEST_P(Gemms, AgreeWithADoubleProductInSeveralGroups) {
  if (std::string(GetParam()) == "portable") GTEST_SKIP() << "the splits are the same as other sets', which are faster";
  for (const bool trans : {false, true}) {
    Case tall(1039, 37, 61, trans, !trans, true, 3), wide(35, 301, 531, trans, trans, true, 5);
    tall.run(pool_), wide.run(pool_);
    ASSERT_NO_FATAL_FAILURE(tall.compare());
    ASSERT_NO_FATAL_FAILURE(wide.compare());
  }
}

// A value depends on its row and column alone.
TEST_P(Gemms, AreTheSameBitsForAnyThreadsRowsAndColumns) {
  each_form([&](bool trans_a, bool trans_b, bool accumulate) {
    Case whole(75, 83, 290, trans_a, trans_b, accumulate, 11);
    whole.run(pool_);
    for (int threads : {1, 3, 4}) {
      ThreadPool pool(threads);
      Case again(75, 83, 290, trans_a, trans_b, accumulate, 11);
      again.run(pool);
      ASSERT_EQ(std::memcmp(again.c.data(), whole.c.data(), whole.c.size() * 4), 0) << threads << " threads";
    }
    for (const auto& [row, column] : {std::pair<int64_t, int64_t>{0, 0}, {18, 31}, {74, 82}}) {
      Case part = whole;
      part.c = part.before;
      Gemm& g = part.g;
      g.a = part.a.data() + part.at_a(row, 0), g.b = part.b.data() + part.at_b(0, column);
      g.c = part.c.data() + part.at_c(row, column), g.m -= row, g.n -= column;
      gemm(pool_, g);
      for (int64_t i = row; i < 75; ++i) {
        for (int64_t j = column; j < 83; ++j) {
          ASSERT_EQ(part.c[whole.at_c(i, j)], whole.c[whole.at_c(i, j)]) << i << ", " << j;
        }
      }
    }
  });
}

TEST_P(Gemms, InF32GiveTheBitsOfDot) {
  if (gemm_arithmetic() != Profile::kF32) GTEST_SKIP() << "the set multiplies in BF16";
  each_form([&](bool trans_a, bool trans_b, bool accumulate) {
    Case c(13, 29, 83, trans_a, trans_b, accumulate, 15);
    c.run(pool_);
    std::vector<float> row(83), column(83);
    for (int64_t i = 0; i < 13; ++i) {
      for (int64_t j = 0; j < 29; ++j) {
        for (int64_t k = 0; k < 83; ++k) {
          row[std::size_t(k)] = c.a[c.at_a(i, k)], column[std::size_t(k)] = c.b[c.at_b(k, j)];
        }
        const float product = dot(row.data(), column.data(), 83);
        ASSERT_EQ(c.c[c.at_c(i, j)], accumulate ? c.before[c.at_c(i, j)] + product : product) << i << ", " << j;
      }
    }
  });
}

TEST_P(Gemms, WhatIsNotFiniteStaysInItsRowAndColumn) {
  const int64_t m = 37, n = 35, k = 45;
  uint32_t all_ones = 0x7FFFFFFF, negative = 0xFFFFFFFF;
  float quiet, other;
  std::memcpy(&quiet, &all_ones, 4), std::memcpy(&other, &negative, 4);
  each_form([&](bool trans_a, bool trans_b, bool accumulate) {
    Case c(m, n, k, trans_a, trans_b, accumulate, 21);
    c.a[c.at_a(3, 7)] = NAN, c.a[c.at_a(36, 44)] = INFINITY, c.a[c.at_a(18, 0)] = quiet;
    c.b[c.at_b(0, 34)] = other, c.b[c.at_b(30, 5)] = -INFINITY;
    c.run(pool_);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        const bool finite = i != 3 && i != 36 && i != 18 && j != 34 && j != 5, nan = i == 3 || i == 18 || j == 34;
        ASSERT_EQ(std::isfinite(c.c[c.at_c(i, j)]), finite) << i << ", " << j;
        ASSERT_TRUE(!nan || std::isnan(c.c[c.at_c(i, j)])) << i << ", " << j;
      }
    }
  });
}

TEST_P(Gemms, ReachTheEndsOfTheRange) {
  each_form([&](bool trans_a, bool trans_b, bool) {
    for (const int power : {-40, -55, 55}) {  // no sum overflows; at 2^-110 no product is denormal as a rule
      Case c(19, 21, 67, trans_a, trans_b, false, 31);
      for (float& x : c.a) x = std::ldexp(x, power);
      for (float& x : c.b) x = std::ldexp(x, power);
      c.run(pool_);
      ASSERT_NO_FATAL_FAILURE(c.compare());
    }
    Case large(18, 17, 40, trans_a, trans_b, false, 41);
    for (float& x : large.a) x = 0x1p100f;
    for (float& x : large.b) x = 0x1p27f;
    large.run(pool_);
    for (float x : large.c) ASSERT_EQ(x, INFINITY);
  });
}

TEST_P(Gemms, OfNothingAreZeroOrLeaveC) {
  each_form([&](bool trans_a, bool trans_b, bool accumulate) {
    Case c(5, 7, 0, trans_a, trans_b, accumulate, 51, 2);
    c.run(pool_);
    for (std::size_t at = 0; at < c.c.size(); ++at) {
      ASSERT_EQ(c.c[at], accumulate || int64_t(at) % c.g.ldc >= c.g.n ? c.before[at] : 0.0f);
    }
    Case none(0, 7, 3, trans_a, trans_b, accumulate, 61), empty(4, 0, 3, trans_a, trans_b, accumulate, 71);
    none.run(pool_), empty.run(pool_);
  });
}

// Whole numbers whose sums need no more than the 24 bits of a float: any order gives them exactly, in any arithmetic.
TEST_P(Gemms, AreExactWhereNothingIsRounded) {
  each_form([&](bool trans_a, bool trans_b, bool accumulate) {
    Case c(50, 70, 129, trans_a, trans_b, accumulate, 81);
    const auto whole = [](float x) { return std::nearbyint(x * 40); };
    for (auto* values : {&c.a, &c.b, &c.c}) {
      for (float& x : *values) x = whole(x);
    }
    const std::vector<float> before = c.c;
    c.run(pool_);
    for (int64_t i = 0; i < 50; ++i) {
      for (int64_t j = 0; j < 70; ++j) {
        float sum = accumulate ? before[c.at_c(i, j)] : 0;
        for (int64_t k = 0; k < 129; ++k) sum += c.a[c.at_a(i, k)] * c.b[c.at_b(k, j)];
        ASSERT_EQ(c.c[c.at_c(i, j)], sum) << i << ", " << j;
      }
    }
  });
}

#if defined(__x86_64__)
// Where there are none, the tests above are of the model: of the kernels, not of what the processor makes of them.
TEST(GemmTiles, OfTheProcessorGiveTheBitsOfTheModel) {
  if (!cpu_features().amx_bf16) GTEST_SKIP() << "this processor has no tiles of BF16: products by tiles ran over the model alone";
  const std::string before(kernel_set());
  ThreadPool pool(2);
  each_form([&](bool trans_a, bool trans_b, bool accumulate) {
    Case real(71, 83, 1093, trans_a, trans_b, accumulate, 91, 2), model = real;
    ASSERT_TRUE(choose("amx").ok() && kernels::table().gemm != nullptr);
    real.run(pool);
    ASSERT_TRUE(choose("amx_model").ok());
    model.run(pool);
    EXPECT_EQ(std::memcmp(real.c.data(), model.c.data(), real.c.size() * 4), 0);
  });
  ASSERT_TRUE(choose(before).ok());
}
#endif

}  // namespace
}  // namespace sonde::test
