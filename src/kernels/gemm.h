// C = op(A) op(B): the products of training, over F32 in memory. With weights W [out, in], a batch X [rows, in]:
//   Y = X W^T (trans_b), dX = dY W, dW += dY^T X (trans_a, accumulate).
#pragma once

#include <cstdint>

#include "base/profile.h"
#include "base/threads.h"

namespace sonde {

// C [m, n] = op(A) op(B), or with `accumulate` C += op(A) op(B), where op(A) is [m, k] and op(B) [k, n]. A is stored as
// [m, k], with trans_a as [k, m]; B as [k, n], with trans_b as [n, k]. lda, ldb, ldc: floats from one stored row to the
// next. C overlaps neither A nor B. k = 0: C is 0, or with `accumulate` left as it is.
struct Gemm {
  const float *a, *b;
  float* c;
  int64_t m, n, k, lda, ldb, ldc;
  bool trans_a = false, trans_b = false, accumulate = false;
};

// A value of C depends on its row of op(A) and column of op(B) alone: the same bits for any m, n and threads. NaN and
// infinities reach all of C that depends on them. With S = sum |a| |b| over k, a product errs by at most
//   kF32   (k / 16 + 5) 2^-24 S: dot() as kernels.h defines it, the same bits for every instruction set;
//   kBf16  2^-7 S + (k / 16 + 20) 2^-24 (1 + 2^-7) S: a and b are rounded to BF16, the nearest, ties to even, each by
//          1 / 257 of itself at most, so products move by (258 / 257)^2 - 1 < 2^-7; they are summed in F32. From
//          2^128 (1 - 2^-9) on a value becomes infinite; rounded values and sums below 2^-126 in magnitude count as 0.
// `accumulate` adds the product to C by one addition in F32.
void gemm(ThreadPool& pool, const Gemm& g);

// kBf16 where the instruction set has products of BF16 pairs, else kF32.
Profile::Arithmetic gemm_arithmetic();

}  // namespace sonde
