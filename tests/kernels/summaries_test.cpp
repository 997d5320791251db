#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/common.h"
#include "kernels/pack.h"
#include "kernels/table.h"

namespace sonde::test {
namespace {

class Summarise : public KernelSets {};
SONDE_EVERY_SET(Summarise);

struct Blocks {
  std::vector<float> most, total;
  explicit Blocks(int64_t n, int64_t m = 1)
      : most(std::size_t(m * summary_blocks(n)), 7.0f), total(most.size(), 7.0f) {}
  bool operator==(const Blocks& other) const {
    const std::size_t bytes = most.size() * sizeof(float);
    return std::memcmp(most.data(), other.most.data(), bytes) == 0 && std::memcmp(total.data(), other.total.data(), bytes) == 0;
  }
};

TEST_P(Summarise, EveryBlockAgreesWithItsValues) {
  for (int64_t n : {1, 2, 15, 16, 17, 31, 32, 33, 1000, 4099}) {
    for (float spread : {0.0f, 0.3f, 8.0f, 1e30f}) {
      for (float factor : {0.0f, 0.001f, 1.0f, 1 / 0.6f, 1000.0f}) {
        std::vector<float> x = normals(std::size_t(n), uint64_t(n), spread);
        if (n > 20) x[3] = x[9], x[std::size_t(n - 1)] = -1e30f;
        Blocks blocks(n);
        summarise(x.data(), n, factor, blocks.most.data(), blocks.total.data());
        double all = 0;
        const float largest_of_all = *std::max_element(x.begin(), x.end());
        for (int64_t b = 0; b < summary_blocks(n); ++b) {
          const auto begin = x.begin() + b * kSummaryBlock, end = std::min(begin + kSummaryBlock, x.end());
          const float most = *std::max_element(begin, end);
          ASSERT_EQ(blocks.most[std::size_t(b)], most) << n << " values, block " << b;
          if (factor == 0) {
            ASSERT_EQ(blocks.total[std::size_t(b)], 7.0f);
            continue;
          }
          double total = 0, allowed = 0;
          for (auto at = begin; at != end; ++at) {
            // The difference and its product round relative to themselves, then exp's 4 eps; five sums.
            const double t = (double(*at) - double(most)) * double(factor), weight = std::exp(t);
            total += weight, allowed += weight > 0 ? weight * (2.01 * std::abs(t) + 9.1) * kEps : 0;
            all += std::exp((double(*at) - double(largest_of_all)) * double(factor));
          }
          ASSERT_LE(std::abs(double(blocks.total[std::size_t(b)]) - total), allowed + 16 * 0x1p-125)
              << n << " values, block " << b << ", factor " << factor;
        }
        if (factor == 0) continue;
        const double joined = joined_total(blocks.most.data(), blocks.total.data(), summary_blocks(n), largest_of_all, factor);
        ASSERT_LE(std::abs(joined - all), kSummaryError * all) << n << " values, spread " << spread << ", factor " << factor;
      }
    }
  }
}

TEST_P(Summarise, TellsWhatIsNotFinite) {
  for (int64_t n : {16, 37, 48}) {
    for (float bad : {NAN, INFINITY, -INFINITY}) {
      for (int64_t at = 0; at < n; ++at) {
        std::vector<float> x = normals(std::size_t(n), 3);
        x[std::size_t(at)] = bad;
        Blocks blocks(n);
        summarise(x.data(), n, 1, blocks.most.data(), blocks.total.data());
        for (int64_t b = 0; b < summary_blocks(n); ++b)
          ASSERT_EQ(std::isfinite(blocks.most[std::size_t(b)]), b != at / kSummaryBlock) << n << " " << at << " " << bad;
      }
    }
  }
}

// What a product leaves is what summarise() says of its rows, in every form and for any number of threads and tokens; and it
// moves no bit of the rows.
TEST_P(Summarise, ProductsLeaveTheirRowsSummaries) {
  ThreadPool one(1), two(2), three(3);
  const bool two_runs = kernels::read_once.two_runs;
  for (int64_t rows : {1, 40, 333}) {
    const int64_t cols = 512, m = 17;
    const std::vector<float> x = normals(std::size_t(m * cols), 5);
    std::vector<float> factors;
    for (int64_t i = 0; i < m; ++i) factors.push_back(float(i % 4) * 0.7f);
    const auto check = [&](const Matrix& w) {
      for (ThreadPool* pool : {&one, &two, &three}) {
        for (int64_t tokens : {int64_t{1}, int64_t{2}, int64_t{9}, m}) {
          std::vector<float> plain(std::size_t(tokens * rows)), y(plain.size());
          matmul(*pool, w, x.data(), tokens, cols, plain.data(), rows);
          Blocks got(rows, tokens), want(rows, tokens);
          const Summaries to{factors.data(), got.most.data(), got.total.data()};
          const Product product{.w = w, .x = x.data(), .m = tokens, .ldx = cols, .y = y.data(), .ldy = rows, .summaries = &to};
          matmul(*pool, std::span(&product, 1));
          ASSERT_EQ(std::memcmp(y.data(), plain.data(), y.size() * sizeof(float)), 0);
          const int64_t blocks = summary_blocks(rows);
          for (int64_t i = 0; i < tokens; ++i) {
            summarise(&y[std::size_t(i * rows)], rows, factors[std::size_t(i)], &want.most[std::size_t(i * blocks)],
                      &want.total[std::size_t(i * blocks)]);
          }
          ASSERT_TRUE(got == want) << w.type->name << ", " << rows << " rows, " << tokens << " tokens, " << pool->size()
                                   << " threads";
        }
      }
    };
    for (const Type* type : weight_types()) {
      if (cols % type->block != 0) continue;
      const OwnedMatrix stored = random_matrix(*type, rows, cols, 9);
      check(stored.view);
      Matrix w = stored.view;
      w.by_values = true;
      check(w);
      if (type == bf16()) w.by_values = false, w.by_pairs = true, check(w);
      if (packed_bytes(stored.view) > 0) {
        AlignedVector<std::byte> bytes(std::size_t(packed_bytes(stored.view)));
        w = stored.view;
        ASSERT_TRUE(pack_rows(two, w, 0, rows, bytes.data()).ok());
        use_packed(w, bytes.data());
        for (bool runs : {false, true}) kernels::read_once.two_runs = runs, check(w);
        kernels::read_once.two_runs = two_runs;
      }
      if (HasFatalFailure()) return;
    }
  }
}

class TopK : public KernelSets {};
SONDE_EVERY_SET(TopK);

TEST_P(TopK, FindsTheLargestAndTheFirstOfEquals) {
  Random random(17);
  for (int64_t n : {1, 2, 7, 15, 16, 17, 64, 72, 160, 256, 1001}) {
    for (int kind = 0; kind < 4; ++kind) {
      std::vector<float> x = normals(std::size_t(n), uint64_t(10 * n + kind), kind == 3 ? 1e37f : 2);
      if (kind == 1) for (float& v : x) v = std::round(v);  // many equals
      if (kind == 2) for (float& v : x) v = random.next_u32() % 3 == 0 ? v : -std::numeric_limits<float>::infinity();
      std::vector<int32_t> want(static_cast<std::size_t>(n));
      for (int64_t i = 0; i < n; ++i) want[std::size_t(i)] = int32_t(i);
      std::sort(want.begin(), want.end(), [&](int32_t a, int32_t b) {
        return x[std::size_t(a)] != x[std::size_t(b)] ? x[std::size_t(a)] > x[std::size_t(b)] : a < b;
      });
      ASSERT_EQ(largest(x.data(), n), x[std::size_t(want[0])]);
      for (int64_t k : {int64_t{1}, int64_t{2}, int64_t{8}, n}) {
        if (k > n || k > 256) continue;
        std::vector<float> left = x;
        std::vector<int32_t> got(std::size_t(k), -1);
        top_k(left.data(), n, k, got.data());
        ASSERT_TRUE(std::equal(got.begin(), got.end(), want.begin())) << n << " values, k " << k << ", kind " << kind;
        for (int64_t i = 0; i < n; ++i) {
          const bool taken = std::find(got.begin(), got.end(), int32_t(i)) != got.end();
          ASSERT_EQ(left[std::size_t(i)], taken ? -std::numeric_limits<float>::infinity() : x[std::size_t(i)]);
        }
      }
      for (int64_t i = 0; i < n; ++i) {
        const float least = x[std::size_t(i)];
        const auto first = std::find_if(x.begin(), x.end(), [&](float v) { return v >= least; }) - x.begin();
        ASSERT_EQ(first_at_least(x.data(), n, least), first);
      }
      ASSERT_EQ(first_at_least(x.data(), n, std::numeric_limits<float>::infinity()), n);
    }
  }
  ASSERT_EQ(largest(nullptr, 0), -std::numeric_limits<float>::infinity());
}

TEST_P(TopK, GivesDifferentIndicesWhateverStandsThere) {
  for (int64_t n : {5, 16, 40}) {
    for (int64_t bad = 0; bad <= n; bad += 3) {
      std::vector<float> x = normals(std::size_t(n), 4);
      for (int64_t i = 0; i < bad; ++i) x[std::size_t(i * 7 % n)] = NAN;
      std::vector<int32_t> out(std::size_t(5), -1);
      top_k(x.data(), n, 5, out.data());
      std::sort(out.begin(), out.end());
      ASSERT_TRUE(out.front() >= 0 && out.back() < n && std::adjacent_find(out.begin(), out.end()) == out.end());
    }
  }
}

}  // namespace
}  // namespace sonde::test
