#include "sample/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "base/random.h"
#include "sample/validate.h"

namespace sonde {
namespace {

std::vector<float> random_logits(int n, uint64_t seed) {
  Random random(seed);
  std::vector<float> logits(n);
  for (float& x : logits) x = static_cast<float>(2 * random.normal());
  return logits;
}

// The distribution that sampler.h describes, by sorting everything.
std::map<int32_t, double> expected(const std::vector<float>& logits, const SamplingOptions& o) {
  std::vector<std::pair<double, int32_t>> p;
  double sum = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    p.emplace_back(-std::exp(logits[i] / o.temperature), i);
    sum -= p.back().first;
  }
  std::sort(p.begin(), p.end());
  for (auto& [w, id] : p) w /= -sum;
  if (o.top_k > 0 && p.size() > static_cast<std::size_t>(o.top_k)) p.resize(o.top_k);
  double total = 0;
  for (auto& [w, id] : p) total += w;
  double reached = 0;
  std::size_t n = 0;
  while (n < p.size() && reached < o.top_p * total) reached += p[n++].first;
  if (o.top_p < 1) p.resize(n);
  std::erase_if(p, [&, best = p[0].first](const auto& e) { return e.first < o.min_p * best; });
  total = 0;
  for (auto& [w, id] : p) total += w;
  std::map<int32_t, double> out;
  for (auto& [w, id] : p) out[id] = w / total;
  return out;
}

// Pearson's statistic over `draws` answers' first tokens against 5 standard deviations above its mean.
void check_distribution(const std::vector<float>& logits, const SamplingOptions& options) {
  const auto p = expected(logits, options);
  std::map<int32_t, int> seen;
  const int draws = 20000;
  Sampler sampler(options, 42, 0, {});
  for (int i = 0; i < draws; ++i) {
    const int32_t id = sampler.choose(logits);
    sampler.accept(id);
    ++seen[id];
  }
  for (const auto& [id, count] : seen) ASSERT_TRUE(p.contains(id)) << "token " << id << " was to be dropped";
  double statistic = 0, rest_expected = 0, rest_seen = 0;
  int cells = 0;
  for (const auto& [id, q] : p) {
    const double e = q * draws, s = seen.contains(id) ? seen[id] : 0;
    if (e < 10) {
      rest_expected += e, rest_seen += s;
    } else {
      statistic += (s - e) * (s - e) / e, ++cells;
    }
  }
  if (rest_expected > 0)
    statistic += (rest_seen - rest_expected) * (rest_seen - rest_expected) / rest_expected, ++cells;
  const double freedom = std::max(1, cells - 1);
  EXPECT_LT(statistic, freedom + 5 * std::sqrt(2 * freedom)) << cells << " cells";
}

TEST(Sampler, DrawsFromTheDistribution) {
  const auto logits = random_logits(60, 1);
  for (double temperature : {0.3, 0.6, 1.0, 2.0}) check_distribution(logits, {.temperature = temperature});
  check_distribution(logits, {.top_p = 0.9});
  check_distribution(logits, {.top_p = 0.3});
  check_distribution(logits, {.top_k = 5});
  check_distribution(logits, {.min_p = 0.1});
  check_distribution(logits, {.temperature = 1.5, .top_p = 0.7, .top_k = 20, .min_p = 0.05});
  check_distribution(std::vector<float>(50, 0.f), {});
}

TEST(Sampler, TopPIsOverWhatTopKLeft) {
  // Probabilities 0.5, 0.3, 0.2. top-k 2 leaves 0.625 and 0.375: top-p 0.6 keeps one. Over all three it would keep two.
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.2f)};
  Sampler sampler({.top_p = 0.6, .top_k = 2}, 7, 0, {});
  for (int i = 0; i < 200; ++i) {
    const int32_t id = sampler.choose(logits);
    EXPECT_EQ(id, 0);
    sampler.accept(id);
  }
  check_distribution(logits, {.top_p = 0.6});
}

TEST(Sampler, ConsidersTemperatureBeforeTopP) {
  // At temperature 1 the first has 0.88; at temperature 4 it has 0.41 and top-p 0.5 needs a second.
  const std::vector<float> logits = {4, 1, 1, 1};
  check_distribution(logits, {.temperature = 4, .top_p = 0.5});
  EXPECT_EQ(expected(logits, {.temperature = 4, .top_p = 0.5}).size(), 2u);
}

TEST(Sampler, GreedyTakesTheLowestIdOfEquals) {
  const std::vector<float> logits = {1, 3, 2, 3, 3};
  Sampler sampler({.temperature = 0}, 1, 0, {});
  EXPECT_EQ(sampler.choose(logits), 1);
  EXPECT_EQ(argmax(std::vector<float>{-2, -1, -1}), 1);
}

TEST(Sampler, TopKKeepsTheLowestIdsOfEquals) {
  const std::vector<float> logits(40, 1.f);
  Sampler sampler({.top_k = 3}, 5, 0, {});
  std::map<int32_t, int> seen;
  for (int i = 0; i < 500; ++i) {
    const int32_t id = sampler.choose(logits);
    sampler.accept(id);
    ++seen[id];
  }
  EXPECT_EQ(seen.size(), 3u);
  EXPECT_EQ(seen.rbegin()->first, 2);
}

TEST(Sampler, IsAFunctionOfSeedSampleAndIndex) {
  const auto logits = random_logits(500, 3);
  const auto answer = [&](uint64_t seed, uint64_t sample) {
    Sampler sampler({}, seed, sample, {});
    std::vector<int32_t> ids;
    for (int i = 0; i < 50; ++i) ids.push_back(sampler.choose(logits)), sampler.accept(ids.back());
    return ids;
  };
  EXPECT_EQ(answer(1, 0), answer(1, 0));
  EXPECT_NE(answer(1, 0), answer(2, 0));
  EXPECT_NE(answer(1, 0), answer(1, 1));
}

// What sampler.h says, word for word: everything sorted, every sum in double and in full.
int32_t plainly(const std::vector<float>& logits, const SamplingOptions& o, uint64_t seed, uint64_t index) {
  std::vector<int32_t> ids;
  const double largest = *std::max_element(logits.begin(), logits.end());
  for (std::size_t i = 0; i < logits.size(); ++i)
    if (largest - logits[i] <= 60 * std::log(2) * o.temperature) ids.push_back(static_cast<int32_t>(i));
  const auto best_first = [&](int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; };
  const auto weight = [&](int32_t id) { return std::exp((logits[id] - largest) / o.temperature); };
  std::sort(ids.begin(), ids.end(), best_first);
  if (o.top_k > 0 && ids.size() > static_cast<std::size_t>(o.top_k)) ids.resize(o.top_k);
  std::vector<int32_t> by_id = ids;
  std::sort(by_id.begin(), by_id.end());
  double sum = 0, kept = 0, below = 0;
  for (const int32_t id : by_id) sum += weight(id);
  std::vector<int32_t> rest;
  for (const int32_t id : ids) {
    if (weight(id) < o.min_p) break;
    rest.push_back(id), kept += weight(id);
    if (o.top_p < 1 && kept >= o.top_p * sum) break;
  }
  const auto words = Random::philox(index, 0, seed);
  const double u = static_cast<double>((uint64_t{words[0]} << 32 | words[1]) >> 11) * 0x1p-53;
  for (const int32_t id : rest)
    if (u * kept < (below += weight(id))) return id;
  return rest.back();
}

TEST(Sampler, ShortCutsChooseTheSameTokens) {
  Random random(11);
  for (int round = 0; round < 60; ++round) {
    const int n = 1 + static_cast<int>(random.next_u32() % (round % 10 == 0 ? 12000 : 2000));
    auto logits = random_logits(n, 100 + round);
    const float stretch = std::exp2(static_cast<float>(random.normal()));
    for (float& x : logits) x *= stretch;
    if (round % 3 == 0)
      for (float& x : logits) x = std::round(x);  // many equals
    if (round % 4 == 1)
      for (int i = 0; i < 10; ++i) logits[random.next_u32() % n] += 12;  // a model that knows
    for (const SamplingOptions& o :
         {SamplingOptions{}, {.temperature = 0.6, .top_p = 0.95}, {.temperature = 0.6, .top_p = 0.5}, {.top_p = 0.999},
          {.top_k = 40}, {.temperature = 0.8, .top_p = 0.9, .top_k = 20}, {.min_p = 0.02}, {.temperature = 3, .top_p = 0.99},
          {.temperature = 0.05, .top_p = 0.9, .min_p = 0.1}, {.temperature = 1e-5}, {.temperature = 1e5, .top_p = 0.3}}) {
      Sampler sampler(o, 7 + round, 0, {});
      for (uint64_t index = 0; index < 12; ++index) {
        const int32_t id = sampler.choose(logits);
        ASSERT_EQ(id, plainly(logits, o, 7 + round, index))
            << n << " logits, temperature " << o.temperature << ", top-p " << o.top_p << ", token " << index;
        sampler.accept(id);
      }
    }
  }
}

struct Summarised {
  std::vector<float> most, total;
  SummarisedRow row;
  Summarised(const std::vector<float>& logits, float factor)
      : most(summary_blocks(std::ssize(logits))), total(most.size(), std::nanf("")), row{logits, most, total} {
    summarise(logits.data(), std::ssize(logits), factor, most.data(), total.data());
  }
};

// Logits of many kinds: plain, with ties, far apart, all equal, in order, some of them the largest and smallest of a model
// that knows.
std::vector<float> logits_of_kind(int n, int kind, uint64_t seed) {
  std::vector<float> logits = random_logits(n, seed);
  for (int i = 0; i < n; ++i) {
    float& x = logits[i];
    if (kind == 1) x = std::round(x);
    if (kind == 2 && i % 3 == 0) x = i % 2 == 0 ? 1e30f : -1e30f;
    if (kind == 3) x = -2.5f;
    if (kind == 4) x = 0.01f * static_cast<float>(i);
    if (kind == 5 && i % 50 == 7) x += 15;
  }
  return logits;
}

TEST(Sampler, ChoosesTheSameTokensBySummaries) {
  for (int n : {1, 2, 15, 16, 17, 31, 33, 257, 1600, 5001}) {
    for (int kind = 0; kind < 6; ++kind) {
      const auto logits = logits_of_kind(n, kind, 31 + n);
      for (const SamplingOptions& o :
           {SamplingOptions{}, {.temperature = 0}, {.temperature = 0.6, .top_p = 0.95}, {.temperature = 0.6, .top_p = 0.2},
            {.top_k = 3}, {.temperature = 0.7, .top_p = 0.8, .top_k = 20}, {.min_p = 0.05}, {.temperature = 2, .top_p = 0.999},
            {.temperature = 1e-4, .top_p = 0.5}, {.temperature = 2e3, .top_p = 0.9}, {.temperature = 1e-3}, {.temperature = 1e3}}) {
        Sampler sampler(o, 5, 0, {});
        const Summarised summarised(logits, sampler.summary_factor());
        EXPECT_TRUE(finite(summarised.row));
        for (uint64_t index = 0; index < 6; ++index) {
          const int32_t id = sampler.choose(summarised.row);
          ASSERT_EQ(id, sampler.choose(logits));
          ASSERT_EQ(id, o.temperature == 0 ? argmax(logits) : plainly(logits, o, 5, index))
              << n << " logits of kind " << kind << ", temperature " << o.temperature << ", top-p " << o.top_p;
          sampler.accept(id);
        }
      }
      ASSERT_EQ(argmax(logits), std::max_element(logits.begin(), logits.end()) - logits.begin());
      ASSERT_EQ(argmax(Summarised(logits, 0).row), argmax(logits));
    }
  }
}

TEST(Sampler, PenaltiesCountThoughThereAreSummaries) {
  const auto logits = random_logits(500, 77);
  const int32_t best = argmax(logits);
  for (double temperature : {0.0, 0.6}) {
    SamplingOptions o{.temperature = temperature, .top_p = 0.9, .repetition_penalty = 1.3, .logit_bias = {{best, -5.0}, {499, 6.0}}};
    Sampler sampler(o, 5, 0, {});
    Penalties penalties(o, {});
    EXPECT_EQ(sampler.summary_factor(), 0);
    const Summarised summarised(logits, sampler.summary_factor());
    for (uint64_t index = 0; index < 30; ++index) {
      auto changed = logits;
      penalties.apply(changed);
      const int32_t id = sampler.choose(summarised.row);
      ASSERT_EQ(id, temperature == 0 ? argmax(changed) : plainly(changed, o, 5, index));
      sampler.accept(id), penalties.add(id);
    }
  }
}

TEST(Sampler, SurvivesExtremes) {
  std::vector<float> logits = {3e38f, -3e38f, 3e38f, 0};
  Sampler cold({.temperature = 1e-30}, 1, 0, {});
  for (int i = 0; i < 50; ++i) {
    const int32_t id = cold.choose(logits);
    EXPECT_TRUE(id == 0 || id == 2);
    cold.accept(id);
  }
  Sampler hot({.temperature = 1e300, .top_p = 1e-300, .min_p = 0.999}, 1, 0, {});
  EXPECT_EQ(hot.choose(logits), 0);
  EXPECT_EQ(Sampler({}, 1, 0, {}).choose(std::vector<float>{1.f}), 0);
}

TEST(Sampler, FindsWhatIsNotFinite) {
  std::vector<float> logits(1000, 1.f);
  EXPECT_TRUE(finite(logits));
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity()}) {
    for (std::size_t at : {std::size_t{0}, std::size_t{499}, std::size_t{999}}) {
      auto broken = logits;
      broken[at] = bad;
      EXPECT_FALSE(finite(broken));
      EXPECT_FALSE(finite(Summarised(broken, 1).row));
    }
  }
}

TEST(Penalties, ChangeTheLogitsInOrder) {
  SamplingOptions o{
      .repetition_penalty = 2, .presence_penalty = 0.5, .frequency_penalty = 0.25, .logit_bias = {{1, 3.0}, {4, -1.0}}};
  Penalties penalties(o, std::vector<int32_t>{0, 1});
  penalties.add(2);
  penalties.add(2);
  std::vector<float> logits = {-1, 1, 4, 5, 0};
  penalties.apply(logits);
  // 0: in the prompt, negative: doubled. 1: (1 + 3) / 2. 2: 4 / 2 - 0.5 - 2 * 0.25. 3: untouched. 4: bias alone.
  EXPECT_EQ(logits, (std::vector<float>{-2, 2, 1, 5, -1}));
}

TEST(Penalties, PresenceLeavesThePromptAlone) {
  Penalties penalties({.presence_penalty = 1}, std::vector<int32_t>{0});
  std::vector<float> logits = {1, 1};
  penalties.add(1);
  penalties.apply(logits);
  EXPECT_EQ(logits, (std::vector<float>{1, 0}));
  EXPECT_FALSE(Penalties({}, {}).active());
}

TEST(Validate, NamesSettingRangeAndValue) {
  EXPECT_TRUE(validate({}, 10).ok());
  EXPECT_TRUE(validate({.temperature = 0, .top_p = 1e-9, .top_k = 1000000, .min_p = 0.99}, 10).ok());
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const std::vector<std::pair<SamplingOptions, std::string>> bad = {{{.temperature = -0.1}, "temperature"},
                                                                    {{.temperature = nan}, "temperature"},
                                                                    {{.temperature = inf}, "temperature"},
                                                                    {{.top_p = 0}, "top_p"},
                                                                    {{.top_p = 1.01}, "top_p"},
                                                                    {{.top_k = -1}, "top_k"},
                                                                    {{.min_p = 1}, "min_p"},
                                                                    {{.min_p = -0.1}, "min_p"},
                                                                    {{.repetition_penalty = 0}, "repetition_penalty"},
                                                                    {{.presence_penalty = 2.1}, "presence_penalty"},
                                                                    {{.frequency_penalty = -2.1}, "frequency_penalty"},
                                                                    {{.logit_bias = {{10, 1.0}}}, "logit_bias"},
                                                                    {{.logit_bias = {{-1, 1.0}}}, "logit_bias"},
                                                                    {{.logit_bias = {{3, nan}}}, "logit_bias"}};
  for (const auto& [options, name] : bad) {
    const Status status = validate(options, 10);
    ASSERT_FALSE(status.ok()) << name;
    EXPECT_NE(status.error().what.find(name), std::string::npos) << status.error().message();
    EXPECT_FALSE(status.error().expected.empty());
    EXPECT_FALSE(status.error().found.empty());
  }
}

}  // namespace
}  // namespace sonde
