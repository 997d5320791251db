// Products of weights without a packed form, by their values (body/panels.h), FP8 with block scales among them.
#include <cmath>
#include <cstring>
#include <utility>

#include "kernels/common.h"
#include "kernels/packed_matrix.h"
#include "kernels/truth.h"

namespace sonde::test {
namespace {

class Panels : public KernelSets {};
SONDE_EVERY_SET(Panels);
INSTANTIATE_TEST_SUITE_P(Models, Panels, testing::Values("amx_model"),
                         [](const auto& set) { return std::string(set.param); });

TEST_P(Panels, StayWithinHalfAStepForEveryType) {
  ThreadPool pool(2);
  for (const Type* type : weight_types()) {
    if (type->bytes >= 2 * type->block) continue;
    const int64_t cols = type->block == 1 ? 300 : 512 + type->block, rows = 37, m = 7;
    OwnedMatrix w = random_matrix(*type, rows, cols, 31);
    w.view.by_values = true;
    const std::vector<float> x = normals(std::size_t(m * cols), 32);
    std::vector<float> y(std::size_t(m * rows)), alone(std::size_t(rows), 0.0f);
    matmul(pool, w.view, x.data(), m, cols, y.data(), rows);
    for (int64_t i = 0; i < m; ++i) {
      matmul(pool, w.view, &x[std::size_t(i * cols)], 1, cols, alone.data(), rows);
      ASSERT_EQ(std::memcmp(alone.data(), &y[std::size_t(i * rows)], alone.size() * 4), 0) << type->name;
    }
    ASSERT_NO_FATAL_FAILURE(expect_within(value_truth(w.view, x, m, cols, nullptr), y, m, rows)) << type->name;
  }
}

OwnedMatrix scaled(int64_t rows, int64_t cols, const char* scale_type, uint64_t seed) {
  OwnedMatrix m = random_matrix(*type_by_name("F8_E4M3"), rows, cols, seed);
  add_block_scales(m, *type_by_name(scale_type), seed);
  m.view.by_values = true;
  return m;
}

// Ragged edges both ways, rows of the second row of scales alone, and the gate's form.
TEST_P(Panels, StayWithinHalfAStepWithBlockScales) {
  ThreadPool pool(2);
  for (const char* scale_name : {"F32", "BF16", "F8_E8M0"}) {
    for (auto [rows, cols] : {std::pair<int64_t, int64_t>{130, 300}, {129, 1030}}) {
      const OwnedMatrix w = scaled(rows, cols, scale_name, 11), up = scaled(rows, cols, scale_name, 12);
      const Matrix slice = w.view.slice(128, rows - 128);
      for (int64_t m : {1, 2, 9, 17}) {
        SCOPED_TRACE(std::string(scale_name) + ", " + std::to_string(cols) + " columns");
        const int64_t ldx = cols + 3, ldy = rows + 1;
        const std::vector<float> x = normals(std::size_t(m * ldx), uint64_t(m)), bias = normals(std::size_t(rows), 8);
        const float* const b = m % 2 == 0 ? bias.data() : nullptr;
        std::vector<float> y[4];  // w's, the slice's, up's, and the gate's
        for (std::vector<float>& to : y) to.assign(std::size_t(m * ldy), NAN);
        const Product products[] = {{w.view, x.data(), m, ldx, y[0].data(), ldy, b},
                                    {slice, x.data(), m, ldx, y[1].data(), rows - 127},
                                    {up.view, x.data(), m, ldx, y[2].data(), ldy},
                                    {w.view, x.data(), m, ldx, y[3].data(), ldy, nullptr, up.view}};
        matmul(pool, products);
        ASSERT_NO_FATAL_FAILURE(expect_within(value_truth(w.view, x, m, ldx, b), y[0], m, ldy));
        const Truth of_slice = value_truth(slice, x, m, ldx, nullptr);
        ASSERT_NO_FATAL_FAILURE(expect_within(of_slice, y[1], m, rows - 127)) << "a slice";
        if (b != nullptr) matmul(pool, w.view, x.data(), m, ldx, y[0].data(), ldy);  // a gate has no bias
        silu_mul(pool, y[0].data(), y[2].data(), y[0].data(), m * ldy);
        for (int64_t i = 0; i < m; ++i) {
          const float *const gated = &y[3][std::size_t(i * ldy)], *const apart = &y[0][std::size_t(i * ldy)];
          ASSERT_EQ(std::memcmp(gated, apart, std::size_t(rows) * 4), 0) << "gated, m " << m;
        }
      }
    }
  }
}

// FP8 as the fast path holds it: rows of answers are the exact product's, those of a prompt the panels', whatever stands beside.
TEST_P(Panels, OfWeightsAsStoredArePromptsAlone) {
  ThreadPool pool(2);
  constexpr int64_t kRows = 130, kCols = 1030, kMost = 29;
  const OwnedMatrix w = scaled(kRows, kCols, "F32", 21), up = scaled(kRows, kCols, "F32", 22);
  const auto with = [](Matrix m, bool by_values, bool as_stored) {
    m.by_values = by_values, m.as_stored = as_stored;
    return m;
  };
  const std::vector<float> x = normals(std::size_t(kMost * kCols), 23);
  const auto multiply = [&](bool by_values, bool as_stored, bool gated, int64_t m, int64_t prompt) {
    std::vector<float> y(std::size_t(m * kRows), NAN);
    const Matrix gate = with(w.view, by_values, as_stored);
    const Product product{.w = gate, .x = x.data(), .m = m, .ldx = kCols, .y = y.data(), .ldy = kRows,
                          .up = gated ? with(up.view, by_values, as_stored) : Matrix{}, .prompt = prompt};
    matmul(pool, std::span(&product, 1));
    return y;
  };
  for (const bool gated : {false, true}) {
    const std::vector<float> exact = multiply(false, false, gated, kMost, 0), rounded = multiply(true, false, gated, kMost, 0);
    ASSERT_NE(exact, rounded);
    for (const int64_t m : {1, 2, 5, 8, 13, 29}) {
      for (const int64_t prompt : {int64_t{0}, m / 2, m}) {
        const std::vector<float> y = multiply(true, true, gated, m, prompt);
        const std::size_t answers = std::size_t((m - prompt) * kRows);
        ASSERT_EQ(std::memcmp(y.data(), exact.data(), answers * 4), 0) << m << ", " << prompt << " of a prompt";
        ASSERT_EQ(std::memcmp(&y[answers], &rounded[answers], (y.size() - answers) * 4), 0) << m << ", " << prompt << " of a prompt";
      }
    }
  }
}

// All bytes of the blocks alike, zeros among them, against the largest bytes of x.
TEST_P(Panels, StayWithinHalfAStepOfTheLargestMagnitudes) {
  ThreadPool pool(1);
  each_filling(panel_types(), [&](OwnedMatrix w) {
    w.view.by_values = true;
    const int64_t cols = w.view.cols, most = 17, ldy = w.view.rows + 1;
    const std::vector<float> x = largest_bytes(most, cols);
    const Truth truth = value_truth(w.view, x, most, cols, nullptr);
    for (int64_t m : {1, 2, 5, 8, 17}) {
      std::vector<float> y(std::size_t(m * ldy), NAN);
      matmul(pool, w.view, x.data(), m, cols, y.data(), ldy);
      ASSERT_NO_FATAL_FAILURE(expect_within(truth, y, m, ldy));
    }
  });
}

}  // namespace
}  // namespace sonde::test
