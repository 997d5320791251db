#include "model/step.h"

#include <cstring>

namespace sonde {

void Step::write_records(const float* values, int64_t parts) const {
  const int64_t width = record / parts;
  const auto write = [&](std::size_t chunk, int64_t i) {
    const float* from = values + (first_row[chunk] + i) * record;
    for (int64_t part = 0; part < parts; ++part, from += width) {
      std::byte* to = record_at(chunk, chunks[chunk].start + i, part, parts);
      exact() ? void(std::memcpy(to, from, std::size_t(width) * sizeof(float))) : to_bf16(from, width, to);
    }
  };
  for (std::size_t chunk = 0; chunk < chunks.size(); ++chunk)
    each_row(pool, int64_t(chunks[chunk].tokens.size()), [&](int64_t i) { write(chunk, i); });
}

void Step::read_records(std::size_t chunk, int64_t first, int64_t count, float* values) const {
  each_row(pool, count, [&](int64_t i) {
    type->unpack(record_at(chunk, first + i), record, values + i * record);
  });
}

}  // namespace sonde
