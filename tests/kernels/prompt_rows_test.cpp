// Products of a prompt's rows: folded (body/folded.h) or by tiles of BF16 pairs (body/pair_weights.h). On sets that have no
// form of their own for them they are those of answers.
#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/common.h"
#include "kernels/packed_matrix.h"
#include "kernels/table.h"
#include "kernels/truth.h"

namespace sonde::test {
namespace {

class PromptRows : public KernelSets {
 protected:
  static bool by_model() { return std::string(GetParam()).starts_with("amx_"); }  // slow
  static bool any_form() {
    const std::vector<const Type*> types = packed_types();
    return std::any_of(types.begin(), types.end(), [](const Type* type) { return strips(*type).prompt != nullptr; });
  }
  static const kernels::StripType& strips(const Type& type) { return kernels::table().strips[&type - all_types().data()]; }
};
SONDE_EVERY_SET(PromptRows);
INSTANTIATE_TEST_SUITE_P(Models, PromptRows, testing::Values("amx_model", "amx_trapped"),
                         [](const auto& set) { return std::string(set.param); });

// The units of the bytes that stand for row r of W: 1/127 of what the codes under 256 columns could reach at most.
template <class Q>
std::vector<double> units_of(const Matrix& w, int64_t r) {
  std::vector<double> out;
  if constexpr (requires { typename Q::Strip; }) {
    using S = typename Q::Strip;
    namespace q = quant::portable;
    double low = -double(S::kZero), high = double((1 << S::kBits) - 1 - S::kZero);
    if constexpr (S::kHasTable) {
      low = *std::min_element(S::kTable, S::kTable + 16), high = *std::max_element(S::kTable, S::kTable + 16);
    }
    std::vector<double> reach;  // of each column
    for (int64_t b = 0; b < w.cols / Q::kBlock; ++b) {
      q::Split split;
      Q::split(w.data + r * w.row_bytes + b * Q::kBytes, split);
      const double d = S::kE8m0 ? double(q::half_e8m0(uint8_t(split.d))) : double(q::half_to_float(split.d));
      for (int k = 0; k < Q::kBlock; ++k) {
        const double scale = S::kSub > 0 ? d * double(int8_t(split.scale[k / std::max(S::kSub, 1)])) : d;
        double least = 0;
        if (S::kMin) least = double(q::half_to_float(split.m)) * (S::kSub > 0 ? double(split.min[k / 32]) : 1.0);
        reach.push_back(std::max(std::abs(low * scale + least), std::abs(high * scale + least)));
      }
    }
    for (std::size_t k = 0; k < reach.size(); k += 256) {
      const auto end = reach.begin() + std::ptrdiff_t(std::min(reach.size(), k + 256));
      out.insert(out.end(), std::size_t(end - reach.begin()) - k, *std::max_element(reach.begin() + std::ptrdiff_t(k), end) / 127);
    }
  }
  return out;
}
std::vector<double> units(const Matrix& w, int64_t r) {
#define SONDE_ROW(T) \
  if (w.type->name == quant::portable::T::kName) return units_of<quant::portable::T>(w, r);
  SONDE_TYPES(SONDE_ROW)
#undef SONDE_ROW
  return {};
}

Product prompt(const Matrix& w, const float* x, int64_t m, int64_t ldx, float* y, int64_t ldy) {
  return {.w = w, .x = x, .m = m, .ldx = ldx, .y = y, .ldy = ldy, .prompt = m};
}

// The weights as stored times the rounded x, in double. A byte errs by 5/8 of its unit at most. A BF16 errs by 4/3
// 2^-8 of itself; before, by 2^-24 of what it is made from, twice, 280 times what the codes could reach (pairs512.h: 2^11 + 8
// scales, of which 15 reach from the lowest to the highest); then come the sums of tiles.
Truth prompt_truth(const Matrix& w, bool pairs, const std::vector<float>& x, int64_t m, int64_t ldx,
                   const float* bias) {
  const std::vector<float> seen = pairs ? rounded_to_bf16(x) : rounded(x, m, ldx, w.cols);
  reference::Bounded sums = reference::matmul(w, seen.data(), m, ldx, bias);
  Truth truth{w.rows, std::move(sums.value), std::move(sums.bound)};
  for (int64_t r = 0; r < w.rows; ++r) {
    const std::vector<double> unit = units(w, r);
    const std::vector<float> stored = reference::row(w, r);
    for (int64_t i = 0; i < m; ++i) {
      double allowed = 0x1p-90;  // what is smaller than 2^-100 counts as zero
      for (int64_t k = 0; k < w.cols; ++k) {
        const double one = std::abs(double(seen[std::size_t(i * ldx + k)])), reach = 127 * unit[std::size_t(k)];
        const double value = std::abs(double(stored[std::size_t(k)]));
        const double sums_of_tiles = double(w.cols / 32 + 20) * kEps * value * 1.01;
        if (pairs) allowed += one * (0x1.56p-8 * value + 560 * kEps * reach + sums_of_tiles);
        else allowed += one * (0.625 * unit[std::size_t(k)] + 40 * kEps * reach);
      }
      if (bias != nullptr) allowed += 2 * kEps * std::abs(double(bias[r]));
      truth.allowed[std::size_t(i * w.rows + r)] = allowed;
    }
  }
  return truth;
}

TEST_P(PromptRows, StayWithinTheErrorsOfTheirForm) {
  if (!any_form()) GTEST_SKIP() << kernel_set() << " has no form of its own for a prompt's rows";
  ThreadPool pool(2);
  for (const Type* type : packed_types()) {
    const bool pairs = strips(*type).prompt_by_pairs;
    for (int64_t cols : {int64_t(type->block), int64_t(3 * type->block), int64_t(2048 + type->block)}) {
      for (int64_t rows : {1, 16, 53}) {
        const PackedMatrix w = packed_matrix(pool, *type, rows, cols, uint64_t(rows * 1000 + cols));
        for (int64_t m : {1, 2, 5, 9, 23, 41}) {
          if (by_model() && (rows == 16 || m % 2 == 0)) continue;
          const int64_t ldx = cols + 3, ldy = rows + 1;
          const std::vector<float> x = normals(std::size_t(m * ldx), uint64_t(m)), bias = normals(std::size_t(rows), 8);
          std::vector<float> y(std::size_t(m * ldy), NAN);
          Product product = prompt(w.view, x.data(), m, ldx, y.data(), ldy);
          product.bias = m % 2 == 0 ? bias.data() : nullptr;
          matmul(pool, std::span(&product, 1));
          ASSERT_NO_FATAL_FAILURE(expect_within(prompt_truth(w.view, pairs, x, m, ldx, product.bias), y, m, ldy))
              << type->name << ", " << cols << " columns";
        }
      }
    }
  }
}

// The same bits whatever stands beside a row, answers' rows among them, which keep their own; with the gate's form, and
// with rows named by number.
TEST_P(PromptRows, AreTheSameBitsForAnyTokensThreadsAndProducts) {
  ThreadPool one(1), two(2), three(3);
  for (const Type* type : packed_types()) {
    const int64_t cols = (by_model() ? 512 : 1024) + type->block, rows = by_model() ? 35 : 77, m = by_model() ? 18 : 41;
    const PackedMatrix w = packed_matrix(one, *type, rows, cols, 3), up = packed_matrix(one, *type, rows, cols, 4);
    const std::vector<float> x = normals(std::size_t(m * cols), 4);
    // [0]: as a prompt's row, [1]: as an answer's.
    std::vector<float> truth[2], ups[2], gated[2];
    for (int answer = 0; answer < 2; ++answer) {
      for (std::vector<float>* to : {&truth[answer], &ups[answer], &gated[answer]}) to->resize(std::size_t(m * rows));
      for (int64_t i = 0; i < m; ++i) {
        const auto multiply = [&](const Matrix& by, std::vector<float>& y) {
          Product p = prompt(by, &x[std::size_t(i * cols)], 1, cols, &y[std::size_t(i * rows)], rows);
          p.prompt = 1 - answer;
          matmul(one, std::span(&p, 1));
        };
        multiply(w.view, truth[answer]), multiply(up.view, ups[answer]);
      }
      silu_mul(one, truth[answer].data(), ups[answer].data(), gated[answer].data(), m * rows);
    }
    ASSERT_EQ(truth[0] != truth[1], strips(*type).prompt != nullptr) << type->name;
    std::vector<int32_t> turned(std::size_t(m), 0);
    for (int64_t i = 0; i < m; ++i) turned[std::size_t(i)] = int32_t(i * 7 % m);
    for (ThreadPool* pool : {&one, &two, &three}) {
      for (int64_t tokens : {1, 2, 5, 8, 9, 18, 29, 41}) {
        if (tokens > m || (by_model() && pool != &two)) break;
        for (int64_t answers : {int64_t(0), int64_t(1), tokens / 2, tokens - 1}) {
          if (by_model() && (tokens < 8 || answers % 2 == 0)) continue;
          std::vector<float> y(std::size_t(tokens * rows)), z(y.size()), t(y.size()), f(y.size());
          Product products[] = {prompt(w.view, x.data(), tokens, cols, y.data(), rows),
                                prompt(w.view, x.data(), tokens, cols, z.data(), rows),
                                prompt(w.view, x.data(), tokens, cols, t.data(), rows),
                                prompt(w.view, x.data(), tokens, cols, f.data(), rows)};
          products[1].up = up.view, products[2].rows = turned.data(), products[3].fine = true;
          for (Product& p : products) p.prompt = tokens - answers;
          matmul(*pool, products);
          for (int64_t i = 0; i < tokens; ++i) {
            const int form = i < answers;
            const auto same = [&](const std::vector<float>& a, const std::vector<float>& b, int64_t of) {
              return std::memcmp(&a[std::size_t(i * rows)], &b[std::size_t(of * rows)], std::size_t(rows) * 4) == 0;
            };
            ASSERT_TRUE(same(y, truth[form], i)) << type->name << ", " << tokens << " rows, row " << i;
            ASSERT_TRUE(same(z, gated[form], i)) << type->name << ", " << tokens << " rows, row " << i;
            ASSERT_TRUE(same(t, truth[form], turned[std::size_t(i)])) << type->name << ", " << tokens << " rows, row " << i;
            const int fine = strips(*type).prompt_by_pairs ? form : 1;  // bytes are too coarse
            ASSERT_TRUE(same(f, truth[fine], i)) << type->name << ", " << tokens << " rows, row " << i;
          }
        }
      }
    }
  }
}

// All bytes of the blocks alike, against bytes of x of both signs: nothing may overflow on the way.
TEST_P(PromptRows, TheLargestMagnitudesDoNotOverflow) {
  if (!any_form()) GTEST_SKIP() << kernel_set() << " has no form of its own for a prompt's rows";
  ThreadPool pool(1);
  each_filling(packed_types(), [&](OwnedMatrix stored) {
    const PackedMatrix w = packed(pool, std::move(stored));
    const int64_t cols = w.view.cols, most = by_model() ? 9 : 23, ldy = w.view.rows + 1;
    const std::vector<float> x = largest_bytes(most, cols);
    const Truth truth = prompt_truth(w.view, strips(*w.view.type).prompt_by_pairs, x, most, cols, nullptr);
    for (int64_t m : {1, 2, 5, 9, 23}) {
      if (m > most) break;
      std::vector<float> y(std::size_t(m * ldy), NAN);
      const Product product = prompt(w.view, x.data(), m, cols, y.data(), ldy);
      matmul(pool, std::span(&product, 1));
      ASSERT_NO_FATAL_FAILURE(expect_within(truth, y, m, ldy));
    }
  });
}

TEST_P(PromptRows, ZerosAndNonFiniteInputsStayInTheirPlace) {
  ThreadPool pool(2);
  for (const Type* type : packed_types()) {
    const int64_t cols = 2 * std::max(type->block, 32), rows = 17, m = 9;
    const PackedMatrix w = packed_matrix(pool, *type, rows, cols, 21);
    std::vector<float> x = normals(std::size_t(m * cols), 22), y(std::size_t(m * rows));
    for (int64_t k = 0; k < cols; ++k) x[std::size_t(k)] = 0;
    x[std::size_t(cols + 5)] = NAN, x[std::size_t(2 * cols + 3)] = INFINITY;
    const Product product = prompt(w.view, x.data(), m, cols, y.data(), rows);
    matmul(pool, std::span(&product, 1));
    for (int64_t r = 0; r < rows; ++r) {
      ASSERT_EQ(y[std::size_t(r)], 0.0f) << type->name;
      ASSERT_FALSE(std::isfinite(y[std::size_t(rows + r)])) << type->name;
      ASSERT_FALSE(std::isfinite(y[std::size_t(2 * rows + r)])) << type->name;
      for (int64_t i = 3; i < m; ++i) ASSERT_TRUE(std::isfinite(y[std::size_t(i * rows + r)])) << type->name;
    }
  }
}

}  // namespace
}  // namespace sonde::test
