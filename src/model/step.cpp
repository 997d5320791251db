#include "model/step.h"

#include <cstring>

namespace sonde {

void Step::write_records(const float* values) const {
  const auto write = [&](std::size_t chunk, int64_t i) {
    const float* from = values + (first_row[chunk] + i) * record;
    std::byte* to = record_at(chunk, chunks[chunk].start + i);
    exact() ? void(std::memcpy(to, from, std::size_t(record) * sizeof(float))) : to_bf16(from, record, to);
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
