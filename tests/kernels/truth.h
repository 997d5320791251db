// What a product should be, in double, and how far from it the roundings of each form can lead.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/common.h"
#include "kernels/packed_matrix.h"
#include "tensor/quant/all.h"

namespace sonde::test {

struct Truth {
  int64_t rows;
  std::vector<double> value, allowed;  // [m, rows]
};
// Of y = x W^T + bias: x [m, w.cols] with stride ldx.
using TruthOf = Truth (*)(const Matrix& w, const std::vector<float>& x, int64_t m, int64_t ldx, const float* bias);

// y [m, truth.rows] with stride ldy, of the tokens from `first` on; NaN stood wherever a product has no row.
inline void expect_within(const Truth& truth, const std::vector<float>& y, int64_t m, int64_t ldy, int64_t first = 0) {
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t r = 0; r < truth.rows; ++r) {
      const std::size_t at = std::size_t((first + i) * truth.rows + r);
      ASSERT_LE(std::abs(double(y[std::size_t(i * ldy + r)]) - truth.value[at]), truth.allowed[at])
          << truth.rows << " rows, m " << m << ": token " << first + i << ", row " << r;
    }
    for (int64_t r = truth.rows; r < ldy; ++r) {
      ASSERT_TRUE(std::isnan(y[std::size_t(i * ldy + r)])) << "wrote beyond the row";
    }
  }
}

// As stored. Lane sums of n / 16 fused steps, four tree levels, one bias: at most n / 16 + 6 roundings, each relative
// to the bound, or, among denormals, half of the smallest one.
inline Truth exact_truth(const Matrix& w, const std::vector<float>& x, int64_t m, int64_t ldx, const float* bias) {
  reference::Bounded y = reference::matmul(w, x.data(), m, ldx, bias);
  for (double& bound : y.bound) bound = double(w.cols / 16 + 6) * (kEps * bound + 0x1p-150);
  return {w.rows, std::move(y.value), std::move(y.bound)};
}

inline bool in_pairs(const Matrix& w) { return arithmetic(Product{w, nullptr, 1, 0, nullptr, 0}) == Profile::kBf16; }

// Lanes sum n / 32 pairs, two roundings a pair, then four levels of a tree; by tiles a chain of sixteen, the sum of two, then
// one for every 32 columns; and the bias.
inline double pair_roundings(int64_t cols) {
  const bool tiles = kernel_set() == "amx" ? cpu_features().amx_bf16 : kernel_set().starts_with("amx");
  return double(tiles ? (cols + 31) / 32 + 18 : cols / 16 + 8);
}
// What they see of x: a denormal counts as 0, among what is multiplied and on the way.
inline std::vector<float> seen_in_pairs(const std::vector<float>& x) {
  std::vector<float> seen = rounded_to_bf16(x);
  for (float& v : seen) v = std::fpclassify(v) == FP_SUBNORMAL ? 0 : v;
  return seen;
}

// BF16 by_pairs, where the set has products of pairs: of x rounded to BF16.
inline Truth pair_truth(const Matrix& w, const std::vector<float>& x, int64_t m, int64_t ldx, const float* bias) {
  if (!in_pairs(w)) return exact_truth(w, x, m, ldx, bias);
  const std::vector<float> seen = seen_in_pairs(x);
  std::vector<uint16_t> stored(std::size_t(w.rows * w.cols));
  for (int64_t r = 0; r < w.rows; ++r) {
    std::memcpy(&stored[std::size_t(r * w.cols)], w.data + r * w.row_bytes, std::size_t(2 * w.cols));
  }
  for (uint16_t& v : stored) v = (v & 0x7F80) == 0 ? 0 : v;
  const Matrix flushed{bf16(), reinterpret_cast<const std::byte*>(stored.data()), w.rows, w.cols, 2 * w.cols};
  const double roundings = pair_roundings(w.cols);
  reference::Bounded y = reference::matmul(flushed, seen.data(), m, ldx, bias);
  for (double& bound : y.bound) bound = roundings * (kEps * bound + 0x1p-126);
  return {w.rows, std::move(y.value), std::move(y.bound)};
}

// F16 and F32 by_pairs, a prompt's rows: W, too, errs, by 4/3 2^-8 of itself, and is flushed.
inline Truth rounded_pair_truth(const Matrix& w, const std::vector<float>& x, int64_t m, int64_t ldx, const float* bias) {
  if (!has_prompt_form(w)) return exact_truth(w, x, m, ldx, bias);
  const std::vector<float> seen = seen_in_pairs(x);
  const double roundings = pair_roundings(w.cols);
  reference::Bounded y = reference::matmul(w, seen.data(), m, ldx, bias);
  for (int64_t i = 0; i < m; ++i) {
    double flushed = 0;
    for (int64_t k = 0; k < w.cols; ++k) flushed += 0x1p-126 * std::abs(double(seen[std::size_t(i * ldx + k)]));
    for (int64_t r = 0; r < w.rows; ++r) {
      double& bound = y.bound[std::size_t(i * w.rows + r)];
      bound = (0x1.56p-8 + 1.01 * roundings * kEps) * bound + roundings * 0x1p-126 + flushed;
    }
  }
  return {w.rows, std::move(y.value), std::move(y.bound)};
}

// |scale * code| + |minimum| of each weight of row r: what the parts that are summed apart can reach.
template <class Q>
std::vector<double> parts_of(const Matrix& w, int64_t r) {
  std::vector<double> out;
  if constexpr (requires { typename Q::Strip; }) {
    using S = typename Q::Strip;
    namespace q = quant::portable;
    for (int64_t b = 0; b < w.cols / Q::kBlock; ++b) {
      q::Split split;
      Q::split(w.data + r * w.row_bytes + b * Q::kBytes, split);
      const double d = S::kE8m0 ? double(q::half_e8m0(uint8_t(split.d))) : double(q::half_to_float(split.d));
      for (int k = 0; k < Q::kBlock; ++k) {
        int code = int(split.codes[k]) - S::kZero;
        if constexpr (S::kHasTable) code = S::kTable[split.codes[k]];
        const double scale = S::kSub > 0 ? d * double(int8_t(split.scale[k / std::max(S::kSub, 1)])) : d;
        const double least = double(q::half_to_float(split.m)) * (S::kSub > 0 ? double(split.min[k / 32]) : 1.0);
        out.push_back(std::abs(scale * code) + (S::kMin ? std::abs(least) : 0.0));
      }
    }
  }
  return out;
}
inline std::vector<double> parts(const Matrix& w, int64_t r) {
#define SONDE_ROW(T) \
  if (w.type->name == quant::portable::T::kName) return parts_of<quant::portable::T>(w, r);
  SONDE_TYPES(SONDE_ROW)
#undef SONDE_ROW
  return {};
}

// In strips: the weights as stored times the rounded x. Every run costs at most six roundings (float of the integer
// sum, scale by sub-scale, by x's scale, the sum; the same for the minimum), relative to what has been summed; where a
// scale is denormal, half of the smallest float times a sum of 2^19. Of zeros none.
inline Truth strip_truth(const Matrix& w, const std::vector<float>& x, int64_t m, int64_t ldx, const float* bias) {
  const std::vector<float> seen = rounded(x, m, ldx, w.cols);
  reference::Bounded sums = reference::matmul(w, seen.data(), m, ldx, bias);
  Truth truth{w.rows, std::move(sums.value), std::move(sums.bound)};
  for (int64_t r = 0; r < w.rows; ++r) {
    const std::vector<double> reach = parts(w, r);
    for (int64_t i = 0; i < m; ++i) {
      double bound = bias != nullptr ? std::abs(double(bias[r])) : 0;
      const float* const token = &seen[std::size_t(i * ldx)];
      for (int64_t k = 0; k < w.cols; ++k) bound += reach[std::size_t(k)] * std::abs(double(token[k]));
      const double roundings = bound > 0 ? double(6 * (w.cols / 32) + 6) : 0;
      truth.allowed[std::size_t(i * w.rows + r)] = roundings * (kEps * bound + 0x1p-131);
    }
  }
  return truth;
}

// By their values, or by a more exact product: each weight errs by half a step of its run at most, and x as above. Of a
// run whose largest is so small that a step has no finite inverse, all may be lost.
inline Truth value_truth(const Matrix& w, const std::vector<float>& x, int64_t m, int64_t ldx, const float* bias) {
  constexpr double kSmallest = 127 * 0x1p-128;
  const auto largest = [&](const float* values) {  // of each run
    std::vector<double> top;
    for (int64_t k = 0; k < w.cols; ++k) {
      if (k % 32 == 0) top.push_back(0);
      top.back() = std::max(top.back(), std::abs(double(values[k])));
    }
    return top;
  };
  std::vector<std::vector<double>> top_x;
  for (int64_t i = 0; i < m; ++i) top_x.push_back(largest(&x[std::size_t(i * ldx)]));
  Truth truth{w.rows, std::vector<double>(std::size_t(m * w.rows)), std::vector<double>(std::size_t(m * w.rows))};
  for (int64_t r = 0; r < w.rows; ++r) {
    const std::vector<float> weights = reference::row(w, r);
    const std::vector<double> top_w = largest(weights.data());
    for (int64_t i = 0; i < m; ++i) {
      const double added = bias != nullptr ? double(bias[r]) : 0;
      double value = added, allowed = 2 * kEps * std::abs(added);
      for (int64_t k = 0; k < w.cols; ++k) {
        const double a = weights[std::size_t(k)], b = x[std::size_t(i * ldx + k)];
        const double most_a = top_w[std::size_t(k / 32)], most_b = top_x[std::size_t(i)][std::size_t(k / 32)];
        const double most = most_a * most_b;
        value += a * b;
        if (std::min(most_a, most_b) < kSmallest) {
          allowed += std::abs(a * b);
        } else {
          allowed += (std::abs(a) * most_b + std::abs(b) * most_a) * 0.5001 / 127;
          allowed += most * (0.2501 / 127 / 127 + 40 * kEps);
        }
        if (k % 32 == 0 && most > 0) allowed += 0x1p-131;  // as of strips
      }
      const std::size_t at = std::size_t(i * w.rows + r);
      truth.value[at] = value, truth.allowed[at] = allowed;
    }
  }
  return truth;
}

}  // namespace sonde::test
