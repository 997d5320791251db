// Every kernel as plain loops in double: the truth that tests compare with. Inputs are F32 as in kernels.h.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace sonde::reference {

// Row r of w, every value by the table's own unpack and, for FP8 blocks, times its scale (rounded to F32 once).
std::vector<float> row(const Matrix& w, int64_t r);

// y[i, r] as kernels.h says, and bound[i, r] = sum |a||b| (+ |bias|): an F32 sum errs by at most a small multiple of eps times it.
struct Bounded {
  std::vector<double> value, bound;
};
Bounded matmul(const Matrix& w, const float* x, int64_t m, int64_t ldx, const float* bias);

std::vector<double> rms_norm(const float* x, int64_t ldx, const float* w, float eps, int64_t m, int64_t n);
std::vector<double> silu_mul(const float* gate, const float* up, int64_t count);
std::vector<double> rotate(const float* x, const double* cosine, const double* sine, int64_t n, bool halves);
// [heads, value_dim] of one row; bound[h, d]: the most that an error of 1 in every score, or a relative one in every
// weight, can move the value: sum_s p_s |v_s|.
Bounded attention(const AttentionShape& shape, const AttentionRow& row);
std::vector<double> softmax(const float* x, int64_t n);

}  // namespace sonde::reference
