#include "sample/logprobs.h"

#include <gtest/gtest.h>

#include <cmath>

namespace sonde {
namespace {

TEST(Logprobs, AreLogSoftmax) {
  const std::vector<float> logits = {std::log(0.1f), std::log(0.6f), std::log(0.3f)};
  const Logprobs out = logprobs(logits, 2, 2);
  // One rounding of the logarithm to F32 on each side.
  EXPECT_NEAR(out.chosen.logprob, std::log(0.3), 4e-7);
  ASSERT_EQ(out.top.size(), 2u);
  EXPECT_EQ(out.top[0].id, 1);
  EXPECT_EQ(out.top[1].id, 2);
  EXPECT_NEAR(out.top[0].logprob, std::log(0.6), 4e-7);
  EXPECT_EQ(out.top[1].logprob, out.chosen.logprob);
}

TEST(Logprobs, SumToOneAndHoldTheBestInOrder) {
  std::vector<float> logits(2000);
  for (int i = 0; i < 2000; ++i) logits[i] = static_cast<float>((i * 7919) % 1000) * 0.01f;
  double sum = 0;
  for (int i = 0; i < 2000; ++i) sum += std::exp(static_cast<double>(logprobs(logits, i, 0).chosen.logprob));
  EXPECT_NEAR(sum, 1, 1e-6);
  const auto top = logprobs(logits, 0, 20).top;
  ASSERT_EQ(top.size(), 20u);
  for (int i = 1; i < 20; ++i) {
    EXPECT_TRUE(logits[top[i - 1].id] > logits[top[i].id] ||
                (logits[top[i - 1].id] == logits[top[i].id] && top[i - 1].id < top[i].id));
  }
  int above = 0;
  for (float x : logits) above += x > logits[top[19].id];
  EXPECT_LT(above, 20);
}

TEST(Logprobs, GiveFewerThanAskedInASmallVocabulary) {
  EXPECT_EQ(logprobs(std::vector<float>{1, 2, 3}, 0, 20).top.size(), 3u);
  EXPECT_TRUE(logprobs(std::vector<float>{1, 2, 3}, 0, 0).top.empty());
  EXPECT_EQ(logprobs(std::vector<float>{3e38f, -3e38f}, 0, 1).chosen.logprob, 0);
}

}  // namespace
}  // namespace sonde
