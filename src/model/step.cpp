#include "model/step.h"

#include <cstring>

namespace sonde {

void Step::multiply(std::string_view what, std::span<const Product> products) const {
  const auto scope = timed(what);
  if (pool.profile() != nullptr)
    for (const Product& p : products) {
      const double pair = p.up ? 2 : 1, bytes = p.m > 0 ? double(p.w.bytes()) : 0;
      pool.profile()->work(pair * bytes, pair * 2 * double(p.m) * double(p.w.rows) * double(p.w.cols),
                           arithmetic(p));
    }
  matmul(pool, products);
}

void Step::attend(const AttentionShape& shape, std::span<const AttentionRow> attending, int64_t values) const {
  const auto scope = timed("attention");
  if (pool.profile() != nullptr)
    for (std::size_t i = 0; i < attending.size(); ++i) {
      const bool last = i + 1 == attending.size() || attending[i + 1].pages != attending[i].pages;
      const auto length = double(attending[i].length);
      pool.profile()->work(last ? length * double(values * shape.type->bytes) : 0,
                           2 * length * double(shape.heads * (shape.key_dim + shape.value_dim)),
                           exact() ? Profile::kF32 : Profile::kBf16);
    }
  attention(pool, shape, attending);
}

void Step::write_records(const float* values, int64_t parts) const {
  const auto scope = timed("cache writes");
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
  const auto scope = timed("cache reads");
  each_row(pool, count, [&](int64_t i) {
    type->unpack(record_at(chunk, first + i), record, values + i * record);
  });
}

}  // namespace sonde
