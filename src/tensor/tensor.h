// Views of stored tensors. Neither owns its bytes: the Checkpoint that was opened does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tensor/types.h"

namespace sonde {

// A tensor as a file holds it. Shape outermost first, as published ([out, in]); the last dimension is contiguous in blocks.
struct Tensor {
  const Type* type = nullptr;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;

  int64_t dim(std::size_t i) const { return i < shape.size() ? shape[i] : 1; }
  int64_t count() const {  // readers have checked that this does not overflow
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    return n;
  }
};

// A weight matrix [rows, cols] as stored; y = x W^T multiplies by it. Only kernels look inside.
struct Matrix {
  const Type* type = nullptr;
  const std::byte* data = nullptr;
  int64_t rows = 0, cols = 0;
  int64_t row_bytes = 0;

  // FP8 blocks (DeepSeek-V3): value = W[i, j] * scale[i / scale_block, j / scale_block]; null for every other weight.
  const std::byte* scales = nullptr;
  const Type* scale_type = nullptr;  // F32 or F8_E8M0
  int64_t scale_block = 128;
  int64_t scale_cols = 0;

  // The same rows in the packed form of the integer kernels (kernels/pack.h): strips of sixteen rows; null: none.
  const std::byte* packed = nullptr;
  int64_t strip_bytes = 0;
  // Without a packed form, where the kernels can:
  bool by_values = false;  // its values are rounded to bytes at each use
  bool by_pairs = false;   // BF16, F16, F32: what it multiplies is rounded to BF16, and so is it
  bool as_stored = false;  // either of them for a prompt's rows alone; others are multiplied in F32

  explicit operator bool() const { return data != nullptr; }
  // Rows [first, first + count); with scales, first must be a multiple of scale_block. Packed too if they are whole strips.
  Matrix slice(int64_t first, int64_t count) const {
    Matrix m = *this;
    m.data = data + first * row_bytes;
    m.rows = count;
    if (packed) m.packed = first % 16 == 0 && count % 16 == 0 ? packed + first / 16 * strip_bytes : nullptr;
    if (scales) m.scales = scales + first / scale_block * scale_cols * scale_type->bytes;
    return m;
  }
  int64_t bytes() const { return rows * row_bytes; }
};

}  // namespace sonde
