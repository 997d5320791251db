// Products by tiles: the bits that AVX-512 VNNI gives, for any number of tokens. On processors with AMX by its
// instructions, and wherever AVX-512 VNNI is by the model of its tiles.
#if defined(__x86_64__)
#include <algorithm>
#include <cmath>

#include "kernels/amx_processor.h"
#include "kernels/common.h"
#include "kernels/pack.h"

namespace sonde::test {
namespace {

class Tiles : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    previous_ = std::string(kernel_set()), served_ = amx::served();
    const Status chosen = choose(GetParam());
    if (!chosen.ok()) GTEST_SKIP() << GetParam() << " is not tested here: " << chosen.error().message();
    tiles_ = &kernels::table();
  }
  void TearDown() override {
    EXPECT_EQ(amx::served() > served_, tiles_ != nullptr && std::string(GetParam()) == "amx_trapped");
    EXPECT_EQ(amx::fault(), nullptr);
    EXPECT_EQ(amx::holders(), 0);
    ASSERT_TRUE(choose(previous_).ok());
  }

  // y of both sets, bit for bit; with and without `up`.
  void compare(const Matrix& w, const Matrix& up, int64_t m, const float* bias) {
    const int64_t ldx = w.cols + 5, ldy = w.rows + 3;
    const std::vector<float> x = normals(std::size_t(m * ldx), uint64_t(m));
    std::vector<float> got[2];
    for (std::vector<float>& y : got) {
      kernels::use_table(&y == got ? *tiles_ : *kernels::table_named("avx512_vnni"));
      y.resize(std::size_t(2 * m * ldy), 7.0f);  // what is not written stays
      const Product both[] = {{w, x.data(), m, ldx, y.data(), ldy, bias, {}},
                              {w, x.data(), m, ldx, y.data() + m * ldy, ldy, nullptr, up}};
      matmul(pool_, both);
    }
    kernels::use_table(*tiles_);
    ASSERT_EQ(std::memcmp(got[0].data(), got[1].data(), got[0].size() * 4), 0)
        << w.type->name << " " << w.rows << "x" << w.cols << ", m " << m;
  }

  struct Weights : OwnedMatrix {
    AlignedVector<std::byte> strips;
  };
  Weights weights(const Type& type, int64_t rows, int64_t cols, uint64_t seed) {
    Weights w;
    static_cast<OwnedMatrix&>(w) = random_matrix(type, rows, cols, seed);
    if (packed_bytes(w.view) == 0) {
      w.view.by_values = true;
      return w;
    }
    w.strips.resize(std::size_t(packed_bytes(w.view)));
    EXPECT_TRUE(pack_rows(pool_, w.view, 0, rows, w.strips.data()).ok());
    use_packed(w.view, w.strips.data());
    return w;
  }
  void compare(const Type& type, int64_t rows, int64_t cols, std::initializer_list<int64_t> tokens) {
    const Weights w = weights(type, rows, cols, 1), up = weights(type, rows, cols, 2);
    const std::vector<float> bias = normals(std::size_t(rows), 3);
    for (int64_t m : tokens) ASSERT_NO_FATAL_FAILURE(compare(w.view, up.view, m, m % 2 == 0 ? bias.data() : nullptr));
  }

  ThreadPool pool_{2};
  const kernels::KernelTable* tiles_ = nullptr;

 private:
  std::string previous_;
  int64_t served_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Sets, Tiles, testing::Values("amx", "amx_model", "amx_trapped"),
                         [](const auto& set) { return std::string(set.param); });

TEST_P(Tiles, GiveTheBitsOfVectorsForEveryType) {
  for (const Type* type : weight_types()) {
    if (type->bytes >= 2 * type->block) continue;
    const int64_t cols = type->block == 1 ? 300 : 1024 + type->block;
    ASSERT_NO_FATAL_FAILURE(compare(*type, 37, cols, {7, 8, 9, 15, 16, 17, 33, 70})) << type->name;
    ASSERT_NO_FATAL_FAILURE(compare(*type, 1, type->block == 1 ? 31 : type->block, {8, 16, 31})) << type->name;
  }
}

TEST_P(Tiles, GiveTheBitsOfVectorsForAnyNumberOfTokens) {
  for (const char* name : {"Q4_K", "Q6_K", "Q8_0"}) {
    const Type& type = *type_by_name(name);
    const Weights w = weights(type, 17, 256, 1), up = weights(type, 17, 256, 2);
    for (int64_t m = 1; m <= 70; ++m) ASSERT_NO_FATAL_FAILURE(compare(w.view, up.view, m, nullptr));
  }
}

// More tokens than stay in the second-level cache, in number and in bytes.
TEST_P(Tiles, GiveTheBitsOfVectorsInGroupsOfTokens) {
  ASSERT_NO_FATAL_FAILURE(compare(*type_by_name("Q4_K"), 17, 256, {530, 1024}));
  ASSERT_NO_FATAL_FAILURE(compare(*type_by_name("Q6_K"), 17, 8192, {112}));
}

// The largest codes and bytes of both signs: int32 holds them, and nothing saturates on the way.
TEST_P(Tiles, GiveTheBitsOfVectorsForTheLargestMagnitudes) {
  for (const Type* type : weight_types()) {
    Weights w = weights(*type, 16, 256, 5);
    if (w.strips.empty()) continue;
    for (int filling : {0x00, 0x7B, 0x80, 0xFB}) {  // as the halves of scales: finite
      std::fill(w.strips.data(), w.strips.data() + w.strips.size(), std::byte(filling));
      std::vector<float> x(16 * 256), got[2];
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = i % 3 == 0 ? -127.0f : 127.0f;
      for (std::vector<float>& y : got) {
        kernels::use_table(&y == got ? *tiles_ : *kernels::table_named("avx512_vnni"));
        y.resize(16 * 16);
        matmul(pool_, w.view, x.data(), 16, 256, y.data(), 16);
      }
      ASSERT_EQ(std::memcmp(got[0].data(), got[1].data(), got[0].size() * 4), 0)
          << type->name << " filled with " << filling;
    }
  }
}

TEST_P(Tiles, PassTheCheckAtStart) { EXPECT_TRUE(kernels::same_products(*kernels::table_named("avx512_vnni"), *tiles_)); }

TEST_P(Tiles, AreReleasedByTheMeasureOfPeaks) {
  if (std::string(GetParam()) != "amx_model") {
    float result = 1;
    EXPECT_EQ(tiles_->int8_burst(32, &result), 3 * 4 * 16 * 16 * 64 * 2);
  }
}

TEST(AmxCheck, ALineTellsOfTilesThatCannotBeUsed) {
  const CpuFeatures& f = cpu_features();
  const auto sets = kernel_sets();
  const bool offered = std::find(sets.begin(), sets.end(), "amx") != sets.end();
  EXPECT_EQ(offered, f.amx_int8 && f.avx512_vnni && kernel_set_notice().empty());
  EXPECT_FALSE(offered && f.amx_refused);
  EXPECT_FALSE(f.amx_refused && kernel_set_notice().empty());
}

// What the check at start is for: a product that is wrong by one bit leaves AMX aside.
TEST(AmxCheck, FindsOneWrongValue) {
  const kernels::KernelTable& right = *kernels::table_named("portable");
  static std::vector<kernels::StripType> strips;
  strips.assign(right.strips, right.strips + all_types().size());
  kernels::KernelTable wrong = right;
  wrong.strips = strips.data();
  EXPECT_TRUE(kernels::same_products(right, wrong));
  static auto* const multiply = strips[std::size_t(type_by_name("Q6_K") - all_types().data())].multiply;
  strips[std::size_t(type_by_name("Q6_K") - all_types().data())].multiply = [](const kernels::StripTask& task,
                                                                               int64_t a, int64_t b) {
    multiply(task, a, b);
    float& last = task.y[(task.m - 1) * task.ldy + task.rows - 1];
    last = std::nextafter(last, INFINITY);
  };
  EXPECT_FALSE(kernels::same_products(right, wrong));
}

}  // namespace
}  // namespace sonde::test
#endif
