// What an answer's text and end are made of, through the whole engine with one letter a token.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/fake_model.h"

namespace sonde::test {
namespace {

Fake lettered(std::vector<int32_t> end_tokens = {}) {
  EngineParts parts;
  parts.tokenizer = std::make_unique<FakeTokenizer>();
  parts.end_tokens = std::move(end_tokens);
  return fake_engine(true, {.threads = 1}, std::move(parts));
}

// Only these tokens can come, greedily in turns of chance.
Request among(std::vector<int32_t> ids, int64_t count) {
  Request r;
  r.prompt = {1, 2, 3};
  r.max_tokens = count;
  for (int32_t id : ids) r.sampling.logit_bias[id] = 100;
  r.sampling.seed = 3;
  return r;
}

Collected answer(Engine& engine, Request r) {
  auto stream = engine.submit(std::move(r));
  EXPECT_TRUE(stream.ok()) << (stream.ok() ? "" : stream.error().message());
  return stream.ok() ? collect(**stream) : Collected{};
}

TEST(Answer, EndsBeforeAStopText) {
  Fake fake = lettered();
  const Collected free = answer(*fake.engine, among({0, 1, 2}, 200));
  ASSERT_EQ(free.text.size(), 200u);
  for (const std::string stop : {"abc", "cab", "aa", "b"}) {
    Request r = among({0, 1, 2}, 200);
    r.stop = {"never", stop};
    const Collected got = answer(*fake.engine, r);
    ASSERT_NE(free.text.find(stop), std::string::npos);
    EXPECT_EQ(got.text, free.text.substr(0, free.text.find(stop)));
    EXPECT_EQ(got.finish_reason, "stop");
    EXPECT_EQ(got.ids.size(), free.text.find(stop) + stop.size());
  }
}

TEST(Answer, LeavesOutTheEndToken) {
  Fake fake = lettered({1, 5});
  const Collected got = answer(*fake.engine, among({0, 1, 2}, 200));
  EXPECT_EQ(got.finish_reason, "stop");
  EXPECT_EQ(got.text.find('b'), std::string::npos);
  EXPECT_EQ(got.usage.completion_tokens, static_cast<int64_t>(got.ids.size()));
  Request all = among({0, 1, 2}, 200);
  all.ignore_eos = true;
  const Collected whole = answer(*fake.engine, all);
  EXPECT_EQ(whole.finish_reason, "length");
  EXPECT_EQ(whole.ids[got.ids.size()], 1);
}

TEST(Answer, NeverSplitsACharacter) {
  Fake fake = lettered();
  Request r = among({0}, 100);
  r.thinking = true;
  r.think = {.tokens = 0, .closing = "\xE4\xBD\xA0\xE4\xBD\xA0z\xE4\xBD\xA0"};  // a token for each byte
  auto stream = fake.engine->submit(r);
  ASSERT_TRUE(stream.ok());
  std::string all;
  for (Event event; stream.value()->next(event); all += event.text) {
    const std::string& text = event.text;
    if (text.empty()) continue;
    EXPECT_NE(static_cast<unsigned char>(text.front()) & 0xC0, 0x80);
    EXPECT_TRUE(static_cast<unsigned char>(text.back()) < 0x80 || text.back() == '\xA0');
  }
  EXPECT_TRUE(all.starts_with(r.think.closing + "</think>aaa")) << all;
}

TEST(Answer, AnUnfinishedCharacterAtTheEndIsReplaced) {
  Fake fake = lettered();
  EXPECT_EQ(answer(*fake.engine, among({28}, 1)).text, "\xEF\xBF\xBD");
}

TEST(Answer, ClosesAThoughtThatUsedUpItsBudget) {
  Fake fake = lettered();
  Request r = among({0, 1, 2}, 60);
  r.thinking = true;
  r.think = {.tokens = 10, .closing = "done"};
  const Collected got = answer(*fake.engine, r);
  EXPECT_EQ(got.text.substr(10, 12), "done</think>");
  EXPECT_EQ(got.usage.reasoning_tokens, 15);
  EXPECT_EQ(got.ids.size(), 60u);
  for (std::size_t i = 0; i < 60; ++i) EXPECT_EQ(got.thought[i], i < 15) << i;
  // The prefix is what it would have been without a budget.
  Request free = among({0, 1, 2}, 60);
  EXPECT_EQ(got.text.substr(0, 10), answer(*fake.engine, free).text.substr(0, 10));
  r.thinking = false;  // no thought, no budget
  EXPECT_EQ(answer(*fake.engine, r).text.find("done"), std::string::npos);
}

TEST(Answer, ThatOnlyRepeatsItselfEndsAsALoop) {
  Fake fake = lettered();
  const Collected got = answer(*fake.engine, among({4}, -1));
  EXPECT_EQ(got.finish_reason, "length");  // the context ends before the guard's 512 tokens
  Fake longer = fake_engine(true, {.threads = 1}, {}, 2048);
  const Collected loop = answer(*longer.engine, among({4}, -1));
  EXPECT_EQ(loop.finish_reason, "loop");
  EXPECT_EQ(loop.ids.size(), 512u);
  Request r = among({4}, 700);
  r.loop_guard = false;
  EXPECT_EQ(answer(*longer.engine, r).finish_reason, "length");
}

TEST(Answer, TellsLogprobsOfTheRawLogits) {
  std::vector<float> raw;
  EngineParts parts;
  parts.watch_logits = [&](const Request&, int64_t index, std::span<const float> logits) {
    if (index == 0) raw.assign(logits.begin(), logits.end());
  };
  Fake fake = fake_engine(true, {.threads = 1}, std::move(parts));
  Request r = among({4}, 1);
  r.logprobs = 20;
  const Collected got = answer(*fake.engine, r);
  ASSERT_EQ(got.logprobs.size(), 1u);
  ASSERT_EQ(got.top.size(), 1u);
  ASSERT_EQ(got.top[0].size(), 20u);
  EXPECT_EQ(got.logprobs[0].id, 4);
  double sum = 0;
  for (float x : raw) sum += std::exp(static_cast<double>(x));
  EXPECT_NEAR(got.logprobs[0].logprob, raw[4] - std::log(sum), 1e-6);
  EXPECT_EQ(got.top[0][0].id, argmax(raw));
  for (int i = 1; i < 20; ++i) EXPECT_GE(got.top[0][i - 1].logprob, got.top[0][i].logprob);
}

}  // namespace
}  // namespace sonde::test
