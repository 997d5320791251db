#include <algorithm>
#include <cmath>

#include "kernels/common.h"

namespace sonde::test {
namespace {

class Attention : public KernelSets {};
SONDE_EVERY_SET(Attention);

// Records in pages scattered over one buffer, as the cache keeps them.
struct Cache {
  AttentionShape shape;
  std::vector<std::vector<float>> storage;
  std::vector<const float*> pages;

  Cache(AttentionShape s, int64_t tokens, const std::vector<float>& records) : shape(s) {
    for (int64_t first = 0; first < tokens; first += s.page_tokens) {
      // Slots behind the last token hold NaN: a kernel that touches them is found out.
      std::vector<float> page(std::size_t(s.page_tokens * s.record), NAN);
      const int64_t n = std::min(s.page_tokens, tokens - first);
      std::copy_n(records.begin() + first * s.record, n * s.record, page.begin());
      storage.push_back(std::move(page));
    }
    for (const auto& page : storage) pages.push_back(page.data());
  }
};

struct Case {
  const char* name;
  AttentionShape shape;
};

AttentionShape grouped(int64_t heads, int64_t key_heads, int64_t dim, int64_t page) {
  return {heads, key_heads, dim, dim, 0, key_heads * dim, dim, dim, 2 * key_heads * dim, page, 1 / std::sqrt(float(dim))};
}
AttentionShape latent(int64_t heads, int64_t rank, int64_t rope, int64_t page) {
  return {heads, 1, rank + rope, rank, 0, 0, 0, 0, rank + rope, page, 0.1f};
}
AttentionShape expanded(int64_t heads, int64_t key_dim, int64_t value_dim, int64_t page) {
  return {heads, heads, key_dim, value_dim, 0, key_dim, key_dim + value_dim, key_dim + value_dim,
          heads * (key_dim + value_dim), page, 1 / std::sqrt(float(key_dim))};
}

const Case kCases[] = {
    {"one head", grouped(1, 1, 16, 16)},       {"grouped", grouped(12, 2, 64, 32)},
    {"as many keys", grouped(4, 4, 48, 7)},    {"ragged widths", grouped(6, 3, 37, 5)},
    {"latent", latent(16, 128, 64, 16)},       {"latent, many heads", latent(128, 40, 16, 64)},
    {"expanded", expanded(4, 192, 128, 256)},  {"one token a page", grouped(2, 1, 8, 1)},
};

std::vector<float> queries(const AttentionShape& s, int64_t rows, uint64_t seed) {
  return normals(std::size_t(rows * s.heads * s.key_dim), seed);
}

// Rows see lengths[i] tokens of one cache.
std::vector<float> attend(ThreadPool& pool, const Cache& cache, const std::vector<float>& q,
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

std::vector<int64_t> upto(int64_t first, int64_t last) {
  std::vector<int64_t> lengths;
  for (int64_t n = first; n <= last; ++n) lengths.push_back(n);
  return lengths;
}

TEST_P(Attention, AgreesWithReference) {
  ThreadPool pool(2);
  for (const Case& c : kCases) {
    const AttentionShape& s = c.shape;
    const Cache cache(s, 200, normals(std::size_t(200 * s.record), 1));
    const std::vector<int64_t> lengths{1, 2, 63, 64, 65, 127, 128, 129, 200};
    const std::vector<float> q = queries(s, int64_t(lengths.size()), 2);
    const std::vector<float> out = attend(pool, cache, q, lengths);
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      const AttentionRow row{&q[i * std::size_t(s.heads * s.key_dim)], nullptr, cache.pages.data(), lengths[i]};
      const reference::Bounded truth = reference::attention(s, row);
      for (int64_t h = 0; h < s.heads; ++h) {
        // Error of a score: the dot's, and two roundings (scale; minus the largest) of a number below `most`.
        double most = 0;
        for (int64_t t = 0; t < lengths[i]; ++t) {
          const float* key = cache.pages[std::size_t(t / s.page_tokens)] + t % s.page_tokens * s.record + s.key_offset +
                             h * s.key_heads / s.heads * s.key_stride;
          double sum = 0;
          for (int64_t k = 0; k < s.key_dim; ++k) sum += std::abs(double(row.q[h * s.key_dim + k]) * double(key[k]));
          most = std::max(most, sum * double(s.scale));
        }
        const double score = kEps * double(s.key_dim / 16 + 6 + 4) * most;
        // Numerator and denominator both err by exp(score) and exp's 4 eps; then a product and a sum a token, 6 eps a block.
        const double relative = 2 * (score + 4 * kEps) + kEps * double(lengths[i] + 6 * (lengths[i] / 64 + 1) + 4);
        for (int64_t d = 0; d < s.value_dim; ++d) {
          const std::size_t at = std::size_t(h * s.value_dim + d);
          ASSERT_LE(std::abs(double(out[i * std::size_t(s.heads * s.value_dim) + at]) - truth.value[at]),
                    relative * truth.bound[at])
              << c.name << ", length " << lengths[i] << ", head " << h << ", " << d;
        }
      }
    }
  }
}

TEST_P(Attention, SameBitsAloneTogetherAndForAnyThreadsAndPages) {
  ThreadPool one(1), two(2), five(5);
  for (const Case& c : kCases) {
    const std::vector<float> records = normals(std::size_t(150 * c.shape.record), 3);
    const Cache cache(c.shape, 150, records);
    const std::vector<int64_t> lengths = upto(100, 150);
    const std::vector<float> q = queries(c.shape, int64_t(lengths.size()), 4);
    const std::vector<float> together = attend(one, cache, q, lengths);
    ASSERT_TRUE(all_finite(together.data(), int64_t(together.size()))) << c.name;
    for (ThreadPool* pool : {&two, &five}) {
      ASSERT_EQ(std::memcmp(attend(*pool, cache, q, lengths).data(), together.data(), together.size() * 4), 0) << c.name;
    }
    const std::size_t query = std::size_t(c.shape.heads * c.shape.key_dim), result = std::size_t(c.shape.heads * c.shape.value_dim);
    for (std::size_t i : {0, 1, 28, 50}) {
      const std::vector<float> alone = attend(two, cache, {&q[i * query], &q[i * query] + query}, {lengths[i]});
      ASSERT_EQ(std::memcmp(alone.data(), &together[i * result], result * 4), 0) << c.name << ", row " << i;
    }
    for (int64_t page : {1, 16, 37, 64, 1000}) {
      AttentionShape shape = c.shape;
      shape.page_tokens = page;
      const Cache other(shape, 150, records);
      ASSERT_EQ(std::memcmp(attend(two, other, q, lengths).data(), together.data(), together.size() * 4), 0)
          << c.name << ", " << page << " tokens a page";
    }
  }
}

TEST_P(Attention, RowsOfSeveralSequences) {
  ThreadPool pool(2);
  const AttentionShape s = grouped(12, 2, 64, 16);
  std::vector<Cache> caches;
  for (uint64_t i = 0; i < 5; ++i) caches.emplace_back(s, 90, normals(std::size_t(90 * s.record), 20 + i));
  const std::vector<float> q = queries(s, 5, 30);
  std::vector<float> out(std::size_t(5 * s.heads * s.value_dim));
  std::vector<AttentionRow> rows;
  const std::size_t width = std::size_t(s.heads * s.key_dim);
  for (std::size_t i = 0; i < 5; ++i) rows.push_back({&q[i * width], &out[i * width], caches[i].pages.data(), 17 * int64_t(i) + 1});
  attention(pool, s, rows);
  for (std::size_t i = 0; i < 5; ++i) {
    const std::vector<float> alone = attend(pool, caches[i], {&q[i * width], &q[i * width] + width}, {rows[i].length});
    ASSERT_EQ(std::memcmp(alone.data(), &out[i * width], width * 4), 0);
  }
}

TEST_P(Attention, ScoresFarApartAndNoTokens) {
  ThreadPool pool(2);
  AttentionShape s = grouped(1, 1, 16, 64);
  std::vector<float> records(std::size_t(130 * s.record), 0.0f);
  for (int64_t t = 0; t < 130; ++t) {
    records[std::size_t(t * s.record)] = t == 100 ? 4000.0f : float(t) - 60;  // one key wins by far, in the second block
    for (int64_t d = 0; d < 16; ++d) records[std::size_t(t * s.record + 16 + d)] = float(t);
  }
  const Cache cache(s, 130, records);
  std::vector<float> q(16, 0.0f);
  q[0] = 10;
  for (float v : attend(pool, cache, q, {130})) ASSERT_EQ(v, 100.0f);
  for (float v : attend(pool, cache, q, {0})) ASSERT_EQ(v, 0.0f);
}

TEST(AttentionSets, GiveTheSameBits) {
  const std::string before(kernel_set());
  ThreadPool pool(2);
  for (const Case& c : kCases) {
    const Cache cache(c.shape, 150, normals(std::size_t(150 * c.shape.record), 5));
    const std::vector<int64_t> lengths = upto(60, 150);
    const std::vector<float> q = queries(c.shape, int64_t(lengths.size()), 6);
    std::vector<float> first;
    for (std::string_view set : kernel_sets()) {
      ASSERT_TRUE(choose_kernel_set(set).ok());
      const std::vector<float> out = attend(pool, cache, q, lengths);
      if (first.empty()) first = out;
      ASSERT_EQ(std::memcmp(out.data(), first.data(), out.size() * 4), 0) << c.name << ", " << set;
    }
  }
  ASSERT_TRUE(choose_kernel_set(before).ok());
}

}  // namespace
}  // namespace sonde::test
