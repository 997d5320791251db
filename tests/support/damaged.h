// Checkpoints with a scale that is not finite.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "files/checkpoint.h"
#include "kernels/kernels.h"

namespace sonde::test {

inline std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// The first pair of bytes of a block that, as all ones but the sign, makes a value of it that is not finite; none: no
// scale of the type can be so.
inline std::optional<int> place_of_scale(const Type& type) {
  std::vector<float> values(std::size_t(type.block));
  for (int at = 0; at + 2 <= type.bytes; ++at) {
    std::vector<std::byte> block(std::size_t(type.bytes), std::byte(1));
    block[std::size_t(at)] = std::byte(0xFF), block[std::size_t(at) + 1] = std::byte(0x7F);
    type.unpack(block.data(), 1, values.data());
    if (!all_finite(values.data(), type.block)) return at;
  }
  return {};
}

// A copy of the file `whole`, which holds `tensor`, at `to`: the scale of the tensor's middle block is NaN.
inline void write_damaged(const std::string& whole, const Tensor& tensor, const std::string& to) {
  std::string bytes = whole;
  const char* const stored = reinterpret_cast<const char*>(tensor.bytes.data());
  const auto found = std::search(bytes.begin(), bytes.end(), stored, stored + tensor.bytes.size());
  const int64_t block = int64_t(tensor.bytes.size()) / tensor.type->bytes / 2 * tensor.type->bytes;
  const auto at = found + block + *place_of_scale(*tensor.type);
  at[0] = char(0xFF), at[1] = char(0x7F);
  std::ofstream(to, std::ios::binary) << bytes;
}

}  // namespace sonde::test
