// Shapes, caches and calls that the tests of attention share.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/common.h"

namespace sonde::test {

// Records in pages of their own, as the cache keeps them.
struct Cache {
  AttentionShape shape;
  std::vector<std::vector<std::byte>> storage;
  std::vector<const std::byte*> pages;

  Cache(AttentionShape s, int64_t tokens, const std::vector<float>& records) : shape(s) {
    for (int64_t first = 0; first < tokens; first += s.page_tokens) {
      // Slots behind the last token hold NaN (all bits set): a kernel that touches them is found out.
      std::vector<std::byte> page(std::size_t(s.page_tokens * s.record * s.type->bytes), std::byte{0xFF});
      const int64_t n = std::min(s.page_tokens, tokens - first);
      s.type->pack(records.data() + first * s.record, n * s.record, page.data());
      storage.push_back(std::move(page));
    }
    for (const auto& page : storage) pages.push_back(page.data());
  }
};

// A key or value as floats.
inline std::vector<float> read(const AttentionShape& s, const std::byte* const* pages, int64_t token, int64_t offset,
                               int64_t n) {
  std::vector<float> values(static_cast<std::size_t>(n));
  s.type->unpack(pages[token / s.page_tokens] + (token % s.page_tokens * s.record + offset) * s.type->bytes, n, values.data());
  return values;
}

struct Case {
  const char* name;
  AttentionShape shape;
};

inline AttentionShape grouped(int64_t heads, int64_t key_heads, int64_t dim, int64_t page) {
  return {heads, key_heads, dim, dim, 0, key_heads * dim, dim, dim, 2 * key_heads * dim, page, 1 / std::sqrt(float(dim))};
}
inline AttentionShape latent(int64_t heads, int64_t rank, int64_t rope, int64_t page) {
  return {heads, 1, rank + rope, rank, 0, 0, 0, 0, rank + rope, page, 0.1f};
}
inline AttentionShape expanded(int64_t heads, int64_t key_dim, int64_t value_dim, int64_t page) {
  return {heads, heads, key_dim, value_dim, 0, key_dim, key_dim + value_dim, key_dim + value_dim,
          heads * (key_dim + value_dim), page, 1 / std::sqrt(float(key_dim))};
}

inline const Case kCases[] = {
    {"one head", grouped(1, 1, 16, 16)},       {"grouped", grouped(12, 2, 64, 32)},
    {"as many keys", grouped(4, 4, 48, 7)},    {"ragged widths", grouped(6, 3, 37, 5)},
    {"latent", latent(16, 128, 64, 16)},       {"latent, many heads", latent(128, 40, 16, 64)},
    {"expanded", expanded(4, 192, 128, 256)},  {"one token a page", grouped(2, 1, 8, 1)},
};

inline std::vector<float> queries(const AttentionShape& s, int64_t rows, uint64_t seed) {
  return normals(std::size_t(rows * s.heads * s.key_dim), seed);
}

// Rows see lengths[i] tokens of one cache.
inline std::vector<float> attend(ThreadPool& pool, const Cache& cache, const std::vector<float>& q,
                          const std::vector<int64_t>& lengths) {
  const AttentionShape& s = cache.shape;
  std::vector<float> out(lengths.size() * std::size_t(s.heads * s.value_dim), NAN);
  std::vector<AttentionRow> rows;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    rows.push_back({&q[i * std::size_t(s.heads * s.key_dim)], &out[i * std::size_t(s.heads * s.value_dim)],
                    cache.pages.data(), lengths[i]});
  }
  attention(pool, s, rows);
  return out;
}

inline std::vector<int64_t> upto(int64_t first, int64_t last) {
  std::vector<int64_t> lengths;
  for (int64_t n = first; n <= last; ++n) lengths.push_back(n);
  return lengths;
}

}  // namespace sonde::test
