// Products of random shapes in every form, against what they should be.
#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/common.h"
#include "kernels/packed_matrix.h"
#include "kernels/truth.h"

namespace sonde::test {
namespace {

// Twenty shapes of each type; prepare(pool, w) sets how w is multiplied, as_stored: all rows are a prompt's. Rows of x have NaN between them, and nothing
// stands behind the last.
template <class F>
void compare(const std::vector<const Type*>& types, TruthOf truth_of, F&& prepare) {
  ThreadPool pool(2);
  Random random(71);
  const auto up_to = [&](int64_t most) { return 1 + int64_t(random.next_u32()) % most; };
  for (const Type* type : types) {
    for (int n = 0; n < 20; ++n) {
      const int64_t rows = up_to(40), cols = type->block * up_to(std::max(600 / type->block, 2));
      const int64_t m = up_to(n % 2 == 0 ? 16 : 70);
      const int64_t ldx = cols + up_to(9), ldy = rows + up_to(9);
      PackedMatrix w;
      static_cast<OwnedMatrix&>(w) = random_matrix(*type, rows, cols, random.next_u32());
      prepare(pool, w);
      std::vector<float> x = normals(std::size_t((m - 1) * ldx + cols), random.next_u32());
      std::vector<float> y(std::size_t(m * ldy), NAN);
      for (int64_t i = 0; i + 1 < m; ++i) std::fill_n(x.begin() + i * ldx + cols, ldx - cols, NAN);
      const std::vector<float> bias = normals(std::size_t(rows), 8);
      const float* const b = n % 3 == 0 ? bias.data() : nullptr;
      const Product product{.w = w.view, .x = x.data(), .m = m, .ldx = ldx, .y = y.data(), .ldy = ldy, .bias = b,
                            .prompt = w.view.as_stored ? m : 0};
      matmul(pool, std::span(&product, 1));
      const Truth truth = truth_of(w.view, x, m, ldx, b);
      ASSERT_NO_FATAL_FAILURE(expect_within(truth, y, m, ldy)) << type->name << ", " << cols << " columns";
    }
  }
}

class Shapes : public KernelSets {};
SONDE_EVERY_SET(Shapes);
INSTANTIATE_TEST_SUITE_P(Models, Shapes, testing::Values("amx_model"),
                         [](const auto& set) { return std::string(set.param); });

TEST_P(Shapes, AsStored) {
  compare(weight_types(), exact_truth, [](ThreadPool&, PackedMatrix&) {});
}

TEST_P(Shapes, InStrips) {
  compare(packed_types(), strip_truth, [](ThreadPool& pool, PackedMatrix& w) { w = packed(pool, std::move(w)); });
}

TEST_P(Shapes, InPanels) {
  compare(panel_types(), value_truth, [](ThreadPool&, PackedMatrix& w) { w.view.by_values = true; });
}

TEST_P(Shapes, InPairs) {
  compare({bf16()}, pair_truth, [](ThreadPool&, PackedMatrix& w) { w.view.by_pairs = true; });
}

TEST_P(Shapes, OfPromptsInPairs) {
  compare({f16(), f32()}, rounded_pair_truth, [](ThreadPool&, PackedMatrix& w) { w.view.by_pairs = w.view.as_stored = true; });
}

}  // namespace
}  // namespace sonde::test
