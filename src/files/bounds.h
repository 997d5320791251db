// Sizes of tensors from numbers that a file claims, without overflow.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sonde/result.h"
#include "tensor/types.h"

namespace sonde {

// a * b, or nothing where it overflows or a factor is negative.
inline std::optional<int64_t> product(int64_t a, int64_t b) {
  int64_t out = 0;
  if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &out)) return std::nullopt;
  return out;
}

// Bytes of a tensor of this shape (outermost first); its last dimension must be a multiple of the block.
Result<int64_t> tensor_bytes(const Type& type, const std::vector<int64_t>& shape, const std::string& where);

// "[2, 3]"
std::string shape_text(const std::vector<int64_t>& shape);

}  // namespace sonde
