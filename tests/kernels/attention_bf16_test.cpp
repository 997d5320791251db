// Attention over BF16 records: against the double reference on the same records, and the equalities bit for bit.
#include "base/cpu.h"
#include "kernels/attention_cases.h"

namespace sonde::test {
namespace {

class AttentionBf16 : public KernelSets {
 protected:
  static bool by_model() { return std::string(GetParam()).starts_with("amx_"); }  // slow
};
SONDE_EVERY_SET(AttentionBf16);
INSTANTIATE_TEST_SUITE_P(Models, AttentionBf16, testing::Values("amx_model", "amx_trapped"),
                         [](const auto& set) { return std::string(set.param); });

const Case kMoreCases[] = {
    {"Qwen's heads", grouped(12, 2, 128, 32)},  {"V2-Lite absorbed", latent(16, 512, 64, 32)},
    {"V2-Lite expanded", expanded(2, 192, 128, 1000)}, {"more heads than a task holds", latent(100, 24, 8, 32)},
};

std::vector<Case> cases() {
  std::vector<Case> all(std::begin(kCases), std::end(kCases));
  all.insert(all.end(), std::begin(kMoreCases), std::end(kMoreCases));
  for (Case& c : all) c.shape.type = bf16();
  return all;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST_P(AttentionBf16, AgreesWithReference) {
  ThreadPool pool(2);
  constexpr double kHalf = 0x1p-9;  // half a unit in the last place of a BF16 just below 2
  for (const Case& c : cases()) {
    const AttentionShape& s = c.shape;
    const int64_t tokens = 600;
    const Cache cache(s, tokens, normals(std::size_t(tokens * s.record), 1));
    const std::vector<int64_t> lengths{1, 2, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 513, 600};
    const std::vector<float> q = queries(s, int64_t(lengths.size()), 2);
    const std::vector<float> out = attend(pool, cache, q, lengths);
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      const AttentionRow row{&q[i * std::size_t(s.heads * s.key_dim)], nullptr, cache.pages.data(), lengths[i]};
      const reference::Bounded truth = reference::attention(s, row);
      for (int64_t h = 0; h < s.heads; ++h) {
        double most = 0;
        for (int64_t t = 0; t < lengths[i]; ++t) {
          const std::vector<float> key =
              read(s, cache.pages.data(), t, s.key_offset + h * s.key_heads / s.heads * s.key_stride, s.key_dim);
          double sum = 0;
          for (int64_t k = 0; k < s.key_dim; ++k) sum += std::abs(double(row.q[h * s.key_dim + k]) * double(key[std::size_t(k)]));
          most = std::max(most, sum * double(s.scale));
        }
        // A score: q rounded to BF16; a product and a sum a value in F32; the largest subtracted, here and when joining.
        const double score = (kHalf + kEps * double(2 * s.key_dim + 8)) * most;
        // Numerator and denominator both err by exp(score) and exp's 4 eps; a weight is rounded to BF16; then a sum a token
        // in each, and five roundings a segment.
        const double relative = 2 * (std::expm1(score) + 4 * kEps) + kHalf + kEps * double(2 * lengths[i] + 10 * (lengths[i] / 256 + 1));
        for (int64_t d = 0; d < s.value_dim; ++d) {
          const std::size_t at = std::size_t(h * s.value_dim + d);
          // 2^-120: products below the smallest normal number may be taken for 0.
          ASSERT_LE(std::abs(double(out[i * std::size_t(s.heads * s.value_dim) + at]) - truth.value[at]),
                    relative * truth.bound[at] + 0x1p-120)
              << c.name << ", length " << lengths[i] << ", head " << h << ", " << d;
        }
      }
    }
  }
}

TEST_P(AttentionBf16, SameBitsAloneTogetherAndForAnyThreadsAndPages) {
  ThreadPool one(1), two(2), five(5);
  for (const Case& c : cases()) {
    const int64_t tokens = 530;
    const std::vector<float> records = normals(std::size_t(tokens * c.shape.record), 3);
    const Cache cache(c.shape, tokens, records);
    const std::vector<int64_t> lengths = upto(500, 530);  // one segment ends among them
    const std::vector<float> q = queries(c.shape, int64_t(lengths.size()), 4);
    const std::vector<float> together = attend(one, cache, q, lengths);
    ASSERT_TRUE(all_finite(together.data(), int64_t(together.size()))) << c.name;
    for (ThreadPool* pool : {&two, &five}) {
      if (by_model() && pool == &five) continue;
      ASSERT_TRUE(same(attend(*pool, cache, q, lengths), together)) << c.name;
    }
    const std::size_t query = std::size_t(c.shape.heads * c.shape.key_dim), result = std::size_t(c.shape.heads * c.shape.value_dim);
    for (std::size_t i : {0, 1, 11, 12, 13, 30}) {
      if (by_model() && i % 12 != 0) continue;
      for (ThreadPool* pool : {&one, &two, &five}) {
        const std::vector<float> alone = attend(*pool, cache, {&q[i * query], &q[i * query] + query}, {lengths[i]});
        ASSERT_EQ(std::memcmp(alone.data(), &together[i * result], result * 4), 0) << c.name << ", row " << i;
      }
    }
    for (int64_t page : {1, 16, 37, 64, 1000}) {
      if (by_model() && page != 37) continue;
      AttentionShape shape = c.shape;
      shape.page_tokens = page;
      const Cache other(shape, tokens, records);
      ASSERT_TRUE(same(attend(two, other, q, lengths), together)) << c.name << ", " << page << " tokens a page";
    }
  }
}

// How a product is made depends on how many queries share a key head; what a query gets does not.
TEST_P(AttentionBf16, SameBitsForAnyNumberOfHeads) {
  ThreadPool pool(2);
  constexpr int64_t kMost = 100, kTokens = 530;
  const std::vector<int64_t> lengths{1, 2, 63, 64, 255, 256, 257, 300, 301, 529, 530};
  const auto shape = [](int kind, int64_t heads) {
    AttentionShape s = kind == 0   ? latent(heads, 512, 64, 32)
                       : kind == 1 ? latent(heads, 96, 32, 7)
                                   : grouped(heads, 1, 128, 32);
    s.type = bf16();
    return s;
  };
  for (int kind : {0, 1, 2}) {
    const AttentionShape all = shape(kind, kMost);
    const std::vector<float> records = normals(std::size_t(kTokens * all.record), 50);
    const std::vector<float> q = queries(all, int64_t(lengths.size()), 51);
    const std::vector<float> truth = attend(pool, Cache(all, kTokens, records), q, lengths);
    const std::size_t rows = lengths.size(), width = std::size_t(all.key_dim), result = std::size_t(all.value_dim);
    for (std::size_t heads : {1, 4, 5, 8, 11, 12, 13, 16, 17, 24, 27, 28, 31, 32, 48, 96}) {
      if (by_model() && heads != 5 && heads != 16 && heads != 17 && heads != 48) continue;
      std::vector<float> some;  // the first heads of each row
      for (std::size_t i = 0; i < rows; ++i) {
        const auto row = q.begin() + std::ptrdiff_t(i * kMost * width);
        some.insert(some.end(), row, row + std::ptrdiff_t(heads * width));
      }
      const Cache cache(shape(kind, int64_t(heads)), kTokens, records);
      const std::vector<float> out = attend(pool, cache, some, lengths);
      for (std::size_t i = 0; i < rows; ++i) {
        const float* const row = &some[i * heads * width];
        const std::vector<float> alone = attend(pool, cache, {row, row + heads * width}, {lengths[i]});
        ASSERT_EQ(std::memcmp(&out[i * heads * result], &truth[i * kMost * result], heads * result * 4), 0)
            << "kind " << kind << ", " << heads << " heads, length " << lengths[i];
        ASSERT_EQ(std::memcmp(alone.data(), &truth[i * kMost * result], heads * result * 4), 0)
            << "kind " << kind << ", " << heads << " heads, length " << lengths[i] << ", alone";
      }
      // Few rows of unequal length in one task.
      const std::vector<std::size_t> few{1, 7, 10};
      std::vector<float> three;
      std::vector<int64_t> three_lengths;
      for (const std::size_t i : few) {
        const auto row = some.begin() + std::ptrdiff_t(i * heads * width);
        three.insert(three.end(), row, row + std::ptrdiff_t(heads * width));
        three_lengths.push_back(lengths[i]);
      }
      const std::vector<float> together = attend(pool, cache, three, three_lengths);
      for (std::size_t i = 0; i < few.size(); ++i) {
        ASSERT_EQ(std::memcmp(&together[i * heads * result], &truth[few[i] * kMost * result], heads * result * 4), 0)
            << "kind " << kind << ", " << heads << " heads, length " << three_lengths[i] << ", of three";
      }
    }
  }
}

TEST_P(AttentionBf16, RowsOfSeveralSequences) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    AttentionShape s = grouped(12, 2, 64, 16);
    s.type = bf16();
    std::vector<Cache> caches;
    for (uint64_t i = 0; i < 5; ++i) caches.emplace_back(s, 600, normals(std::size_t(600 * s.record), 20 + i));
    const std::vector<float> q = queries(s, 5, 30);
    std::vector<float> out(std::size_t(5 * s.heads * s.value_dim), NAN);
    std::vector<AttentionRow> rows;
    const std::size_t width = std::size_t(s.heads * s.key_dim);
    for (std::size_t i = 0; i < 5; ++i) {
      rows.push_back({&q[i * width], &out[i * width], caches[i].pages.data(), 130 * int64_t(i) + 1});
    }
    attention(pool, s, rows);
    for (std::size_t i = 0; i < 5; ++i) {
      const std::vector<float> alone = attend(pool, caches[i], {&q[i * width], &q[i * width] + width}, {rows[i].length});
      ASSERT_EQ(std::memcmp(alone.data(), &out[i * width], width * 4), 0) << i;
    }
  }
}

// A row never meets what it does not see, even in the pair of tokens that it shares with its neighbour.
TEST_P(AttentionBf16, LaterTokensThatAreNoNumbersReachOnlyThoseWhoSeeThem) {
  ThreadPool pool(2);
  for (const Case& c : cases()) {
    const int64_t tokens = 300, bad = 281;
    std::vector<float> records = normals(std::size_t(tokens * c.shape.record), 40);
    const std::vector<int64_t> lengths = upto(270, tokens);
    const std::vector<float> q = queries(c.shape, int64_t(lengths.size()), 41);
    const std::vector<float> clean = attend(pool, Cache(c.shape, tokens, records), q, lengths);
    std::fill_n(records.begin() + bad * c.shape.record, c.shape.record, NAN);
    const std::vector<float> spoilt = attend(pool, Cache(c.shape, tokens, records), q, lengths);
    const std::size_t result = std::size_t(c.shape.heads * c.shape.value_dim);
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      if (lengths[i] <= bad) {
        ASSERT_EQ(std::memcmp(&clean[i * result], &spoilt[i * result], result * 4), 0) << c.name << ", " << lengths[i];
      } else {
        for (std::size_t d = 0; d < result; ++d) ASSERT_TRUE(std::isnan(spoilt[i * result + d])) << c.name << ", " << lengths[i];
      }
    }
  }
}

TEST_P(AttentionBf16, ScoresFarApartAndNoTokens) {
  ThreadPool pool(2);
  AttentionShape s = grouped(1, 1, 16, 64);
  s.type = bf16();
  for (int64_t winner : {3, 100, 299}) {  // one key wins by far, in the first or the second segment
    std::vector<float> records(std::size_t(300 * s.record), 0.0f);
    for (int64_t t = 0; t < 300; ++t) {
      records[std::size_t(t * s.record)] = t == winner ? 4096.0f : float(t % 128) - 64;
      for (int64_t d = 0; d < 16; ++d) records[std::size_t(t * s.record + 16 + d)] = float(t % 256);
    }
    const Cache cache(s, 300, records);
    std::vector<float> q(16, 0.0f);
    q[0] = 10;
    for (float v : attend(pool, cache, q, {300})) ASSERT_EQ(v, float(winner % 256));
    for (float v : attend(pool, cache, q, {0})) ASSERT_EQ(v, 0.0f);
    q[0] = -10;  // all but one are equal or larger by far
    for (float v : attend(pool, cache, q, {1})) ASSERT_EQ(v, 0.0f);
  }
}

TEST(AttentionBf16Forms, SaysWhichTheProcessorLacks) {
  if (!cpu_features().avx512_bf16) GTEST_SKIP() << "no AVX-512 BF16 here: that form is not tested";
  const auto sets = kernel_sets();
  EXPECT_NE(std::find(sets.begin(), sets.end(), "avx512_bf16"), sets.end());
}

}  // namespace
}  // namespace sonde::test
