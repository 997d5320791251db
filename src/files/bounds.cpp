#include "files/bounds.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "files/error.h"

namespace sonde {

std::string shape_text(const std::vector<int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

Result<int64_t> tensor_bytes(const Type& type, const std::vector<int64_t>& shape, const std::string& where) {
  int64_t count = 1;
  for (const int64_t d : shape) {
    const auto next = product(count, d);
    if (!next) return corrupt(where, "the shape is impossible", {}, shape_text(shape));
    count = *next;
  }
  const int64_t last = shape.empty() ? 1 : shape.back();
  if (last % type.block != 0) {
    return corrupt(where, "a row does not divide into blocks",
                   fmt::format("a multiple of {} ({})", type.block, type.name), fmt::format("{}", last));
  }
  const auto bytes = product(count / type.block, type.bytes);
  if (!bytes) return corrupt(where, "the shape is impossible", {}, shape_text(shape));
  return *bytes;
}

}  // namespace sonde
