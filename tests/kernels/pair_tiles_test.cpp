// Products of BF16 pairs by tiles: the bits that the manual's TDPBF16PS gives, for any rows, columns and tokens. On
// processors with AMX by its instructions, and wherever AVX-512 VNNI is by the model of its tiles.
#if defined(__x86_64__)
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cmath>

#include "kernels/common.h"

namespace sonde::test {
namespace {

float value(uint16_t bits) { return std::bit_cast<float>(uint32_t(bits) << 16); }
uint16_t nearest(float x) {
  std::byte out[2];
  to_bf16(&x, 1, out);
  return std::bit_cast<uint16_t>(out);
}

// The sum as body/pair_tiles.h and the manual define it, without a tile.
float flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; }
float definition(const uint16_t* w, const float* x, int64_t cols) {
  float sum = 0;
  for (int64_t k = 0; k < cols; k += 32) {
    float chains[2] = {0, 0};
    for (int64_t i = k; i < std::min(k + 32, cols); ++i) {
      chains[i % 2] = flushed(std::fma(flushed(value(w[i])), flushed(value(nearest(x[i]))), chains[i % 2]));
    }
    sum = flushed(sum + flushed(chains[0] + chains[1]));
  }
  return sum;
}
bool same(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}
// Whether a and b can be sums of the same products in two orders.
bool near(float a, float b, const uint16_t* w, const float* x, int64_t cols) {
  double bound = 0;
  for (int64_t k = 0; k < cols; ++k) bound += std::abs(double(value(w[k])) * double(value(nearest(x[k]))));
  return std::abs(double(a) - double(b)) <= 2 * double(cols / 32 + 34) * (kEps * bound + 0x1p-126);
}

// Rows with `gap` values between them, which are NaN; behind the last row nothing can be read.
class Fenced {
 public:
  Fenced(int64_t rows, int64_t cols, int64_t gap) : rows_(rows), cols_(cols), stride_(cols + gap) {
    const int64_t page = sysconf(_SC_PAGESIZE), bytes = 2 * ((rows - 1) * stride_ + cols);
    size_ = (bytes + page - 1) / page * page + page;
    at_ = mmap(nullptr, std::size_t(size_), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    std::byte* const end = static_cast<std::byte*>(at_) + size_ - page;
    mprotect(end, std::size_t(page), PROT_NONE);
    first_ = reinterpret_cast<uint16_t*>(end - bytes);
    std::fill_n(first_, bytes / 2, uint16_t(0x7FC0));
  }
  ~Fenced() { munmap(at_, std::size_t(size_)); }
  Fenced(const Fenced&) = delete;
  uint16_t* row(int64_t r) { return first_ + r * stride_; }
  Matrix view() const {
    Matrix m{bf16(), reinterpret_cast<const std::byte*>(first_), rows_, cols_, 2 * stride_};
    m.by_pairs = true;
    return m;
  }

 private:
  int64_t rows_, cols_, stride_, size_;
  void* at_;
  uint16_t* first_;
};

enum Values { kNormal, kLargest, kSmallest };
float draw(Random& random, Values values) {
  const float x = float(random.normal());
  if (values == kLargest) return std::ldexp(x, 62 + int(random.next_u32() % 4));  // products of up to 2^130: some overflow
  if (values == kSmallest) return std::ldexp(x, -60 - int(random.next_u32() % 70));
  return x;
}

class PairTiles : public KernelSets {
 protected:
  void SetUp() override {
    KernelSets::SetUp();
    if (!IsSkipped() && std::string(GetParam()) == "amx" && !cpu_features().amx_bf16)
      GTEST_SKIP() << "this processor has no tiles of BF16";
    served_ = amx::served();
  }
  void TearDown() override {
    if (!IsSkipped()) {
      EXPECT_EQ(amx::served() > served_, std::string(GetParam()) == "amx_trapped");
    }
    EXPECT_EQ(amx::fault(), nullptr);
    EXPECT_EQ(amx::holders(), 0);
    KernelSets::TearDown();
  }

  void compare(int64_t rows, int64_t cols, int64_t m, Values values, bool biased) {
    Random random(uint64_t(rows * 1'000'003 + cols * 1009 + m));
    Fenced w(rows, cols, rows % 3);
    const int64_t ldx = cols + m % 4, ldy = rows + 2;
    std::vector<float> x(std::size_t(m * ldx), NAN), y(std::size_t(m * ldy), 7.0f);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t k = 0; k < cols; ++k) w.row(r)[k] = nearest(draw(random, values));
    }
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t k = 0; k < cols; ++k) x[std::size_t(i * ldx + k)] = draw(random, values);
    }
    const std::vector<float> bias = normals(std::size_t(rows), 5);
    matmul(pool_, w.view(), x.data(), m, ldx, y.data(), ldy, biased ? bias.data() : nullptr);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t r = 0; r < rows; ++r) {
        const float* const token = &x[std::size_t(i * ldx)];
        const float sum = definition(w.row(r), token, cols), right = biased ? sum + bias[std::size_t(r)] : sum;
        const float got = y[std::size_t(i * ldy + r)];
        // A processor may add within its 32 columns in another order than the manual's.
        ASSERT_TRUE(same(got, right) || (by_processor() && near(got, right, w.row(r), token, cols)))
            << y[std::size_t(i * ldy + r)] << ", not " << sum << ": " << rows << "x" << cols << ", m " << m << ", token "
            << i << ", row " << r;
      }
      for (int64_t r = rows; r < ldy; ++r) ASSERT_EQ(y[std::size_t(i * ldy + r)], 7.0f) << "wrote beyond the row";
    }
  }

  static bool by_processor() { return std::string(GetParam()) == "amx"; }

  ThreadPool pool_{2};

 private:
  int64_t served_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Sets, PairTiles, testing::Values("amx", "amx_model", "amx_trapped"),
                         [](const auto& set) { return std::string(set.param); });

TEST_P(PairTiles, GiveTheBitsOfTheDefinition) {
  for (int64_t rows = 1; rows <= 33; ++rows) {
    for (int64_t cols : {1, 31, 32, 97}) ASSERT_NO_FATAL_FAILURE(compare(rows, cols, rows * 7 % 40 + 1, kNormal, rows % 2 == 0));
  }
  for (int64_t cols = 1; cols <= 66; ++cols) ASSERT_NO_FATAL_FAILURE(compare(21, cols, 17, kNormal, false));
  for (int64_t m = 1; m <= 40; ++m) ASSERT_NO_FATAL_FAILURE(compare(37, 1055, m, kNormal, m % 2 == 0));
  ASSERT_NO_FATAL_FAILURE(compare(150, 515, 100, kNormal, true));
}

// Sums that overflow, and values and sums that are flushed to zero.
TEST_P(PairTiles, GiveTheBitsOfTheDefinitionAtTheEndsOfTheRange) {
  if (by_processor()) GTEST_SKIP() << "what overflows depends on the order of adding, which the processor chooses";
  for (Values values : {kLargest, kSmallest}) {
    for (int64_t m : {1, 2, 16, 19}) {
      ASSERT_NO_FATAL_FAILURE(compare(35, 70, m, values, false));
      ASSERT_NO_FATAL_FAILURE(compare(16, 3, m, values, false));
    }
  }
}

// More of x than the second-level cache holds at once: several pairs of strips meet a span of it, and more tokens than pass
// together; and one pair of a long row.
TEST_P(PairTiles, GiveTheBitsOfTheDefinitionInGroupsOfTokens) {
  ASSERT_NO_FATAL_FAILURE(compare(53, 800, 530, kNormal, true));
  ASSERT_NO_FATAL_FAILURE(compare(5, 16'400, 70, kNormal, false));
}

TEST_P(PairTiles, GiveTheSameBitsForAnyTokensRowsAndThreads) {
  const int64_t rows = 133, cols = 351, m = 41;
  OwnedMatrix stored = random_matrix(*bf16(), rows, cols, 3);
  stored.view.by_pairs = true;
  const std::vector<float> x = normals(std::size_t(m * cols), 4);
  std::vector<float> truth(std::size_t(m * rows));
  for (int64_t i = 0; i < m; ++i) {
    matmul(pool_, stored.view, &x[std::size_t(i * cols)], 1, cols, &truth[std::size_t(i * rows)], rows);
  }
  const kernels::KernelTable& table = kernels::table();
  AlignedVector<std::byte> rounded(std::size_t((m + (m - 1) / 16) * ((cols + 31) / 32) * 64));
  AlignedVector<float> scratch(std::size_t(table.pair_scratch(m, cols)));
  for (int64_t tokens = 1; tokens <= m; ++tokens) {
    const kernels::StripInput in{x.data(), nullptr, tokens, cols, cols, 0, 1, false, true, rounded.data()};
    for (int64_t i = table.pair_parts(in); i-- > 0;) table.round_pairs(in, i, i + 1);
    std::vector<float> y(std::size_t(tokens * rows));
    for (int64_t next, row = 0; row < rows; row = next) {
      next = std::min(rows, row + 16 * (1 + (row + tokens) % 3));
      table.pairs({stored.view.data, rows, cols, stored.view.row_bytes, rounded.data(), tokens, y.data(), rows, nullptr}, row, next,
                  scratch.data());
    }
    ASSERT_EQ(std::memcmp(y.data(), truth.data(), y.size() * 4), 0) << "m " << tokens;
  }
  for (int threads : {1, 3}) {
    ThreadPool pool(threads);
    std::vector<float> y(truth.size());
    matmul(pool, stored.view, x.data(), m, cols, y.data(), rows);
    ASSERT_EQ(std::memcmp(y.data(), truth.data(), y.size() * 4), 0) << threads << " threads";
  }
}

TEST_P(PairTiles, WhatIsNotFiniteStaysInItsRowAndToken) {
  const int64_t rows = 39, cols = 41, m = 19;
  Fenced w(rows, cols, 1);
  for (int64_t r = 0; r < rows; ++r) std::fill_n(w.row(r), cols, nearest(1.5f));
  w.row(20)[40] = 0x7FC0, w.row(36)[3] = 0xFF80;
  std::vector<float> x(std::size_t(m * cols), 1.0f), y(std::size_t(m * rows));
  x[std::size_t(5 * cols + 40)] = INFINITY, x[std::size_t(18 * cols)] = NAN;
  matmul(pool_, w.view(), x.data(), m, cols, y.data(), rows);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t r = 0; r < rows; ++r) {
      ASSERT_EQ(y[std::size_t(i * rows + r)] == 61.5f, i != 5 && i != 18 && r != 20 && r != 36) << i << ", " << r;
    }
  }
}

TEST_P(PairTiles, RoundsIntoItsPlaceAlone) {
  const int64_t cols = 33;
  const std::vector<float> x = normals(std::size_t(700 * cols), 1);
  const kernels::KernelTable& table = kernels::table();
  for (int64_t m = 1; m <= 700; ++m) {
    const std::size_t bytes = std::size_t((m + (m - 1) / 16) * 2 * 64);
    AlignedVector<std::byte> out(bytes + 64, std::byte(0x55));
    const kernels::StripInput in{x.data(), nullptr, m, cols, cols, 0, 1, false, true, out.data()};
    table.round_pairs(in, 0, table.pair_parts(in));
    for (std::size_t i = bytes; i < bytes + 64; ++i) ASSERT_EQ(out[i], std::byte(0x55)) << "m " << m;
  }
  float w[1] = {0}, y = 7;  // and a product, as in every test here
  Matrix one{bf16(), reinterpret_cast<const std::byte*>(w), 1, 1, 2};
  one.by_pairs = true;
  matmul(pool_, one, x.data(), 1, 1, &y, 1);
  EXPECT_EQ(y, 0);
}

// What the check at start is for.
TEST_P(PairTiles, AWrongProductIsFoundAtStart) {
  const kernels::KernelTable& right = kernels::table();
  EXPECT_TRUE(kernels::same_products(*kernels::table_named("avx512_vnni"), right));
  static void (*pairs)(const kernels::PairTask&, int64_t, int64_t, float*);
  pairs = right.pairs;
  kernels::KernelTable wrong = right;
  wrong.pairs = [](const kernels::PairTask& task, int64_t begin, int64_t end, float* scratch) {
    pairs(task, begin, end, scratch);
    float& last = task.y[(task.m - 1) * task.ldy + task.rows - 1];
    last = std::nextafter(last, INFINITY);
  };
  EXPECT_FALSE(kernels::same_products(*kernels::table_named("avx512_vnni"), wrong));
}

TEST_P(PairTiles, AreReleasedByTheMeasureOfPeaks) {
  if (std::string(GetParam()) == "amx_model") GTEST_SKIP() << "the model has no peak";
  float result = 1;
  EXPECT_EQ(kernels::table().bf16_burst(32, &result), 3 * 4 * 16 * 16 * 32 * 2);
}

}  // namespace
}  // namespace sonde::test
#endif
