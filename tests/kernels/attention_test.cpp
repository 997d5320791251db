#include "kernels/attention_cases.h"

namespace sonde::test {
namespace {

class Attention : public KernelSets {};
SONDE_EVERY_SET(Attention);

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
          const std::vector<float> key =
              read(s, cache.pages.data(), t, s.key_offset + h * s.key_heads / s.heads * s.key_stride, s.key_dim);
          double sum = 0;
          for (int64_t k = 0; k < s.key_dim; ++k) sum += std::abs(double(row.q[h * s.key_dim + k]) * double(key[std::size_t(k)]));
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
