// Chat turns with the embedded model: rendered, encoded, answered and parsed.
#include "engine/chat_turn.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/defaults.h"
#include "support/assets.h"

namespace sonde::test {
namespace {

Conversation asks(const std::string& question) {
  Conversation c;
  c.messages = {{{"role", "user"}, {"content", question}}};
  return c;
}

struct Heard {
  std::string reasoning, content, finish_reason;
  std::vector<int32_t> ids;
  std::vector<uint8_t> thought;
  std::size_t logprobs = 0;
  Usage usage;
};

Heard hear(ChatTurn& turn) {
  Heard all;
  for (ChatEvent event; turn.next(event);) {
    all.reasoning += event.delta.reasoning_content;
    all.content += event.delta.content;
    all.ids.insert(all.ids.end(), event.ids.begin(), event.ids.end());
    all.thought.insert(all.thought.end(), event.thought.begin(), event.thought.end());
    all.logprobs += event.logprobs.size();
    if (event.finish_reason.empty()) continue;
    all.finish_reason = event.finish_reason;
    all.usage = event.usage;
  }
  return all;
}

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of("\r\n");
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of("\r\n") - first + 1);
}

class Chat : public testing::Test {
 protected:
  void SetUp() override {
    auto engine = Engine::open(source("models/mini"), {.kv_bytes = int64_t{256} << 20, .exact = true});
    ASSERT_TRUE(engine.ok()) << engine.error().message();
    engine_ = std::move(engine).value();
  }
  Request greedy() const {
    Request r;
    r.sampling.temperature = 0;
    return r;
  }
  std::unique_ptr<ChatTurn> start(Conversation c, Request r) {
    auto turn = ChatTurn::start(*engine_, std::move(c), std::move(r));
    EXPECT_TRUE(turn.ok()) << (turn.ok() ? "" : turn.error().message());
    return turn.ok() ? std::move(turn).value() : nullptr;
  }
  std::unique_ptr<Engine> engine_;
};

TEST_F(Chat, ThinksAndAnswers) {
  Request r = greedy();
  r.logprobs = 3;
  auto turn = start(asks("37 * 48"), r);
  ASSERT_TRUE(turn);
  EXPECT_TRUE(turn->thinking());
  const Heard heard = hear(*turn);
  EXPECT_NE(heard.content.find("1776"), std::string::npos) << heard.content;
  EXPECT_EQ(heard.content.find("think"), std::string::npos);
  EXPECT_FALSE(heard.reasoning.empty());
  EXPECT_EQ(heard.finish_reason, "stop");
  EXPECT_EQ(turn->message().content, heard.content);
  EXPECT_EQ(turn->message().reasoning_content.value_or(""), heard.reasoning);
  EXPECT_EQ(heard.usage.prompt_tokens, turn->prompt_tokens());
  EXPECT_EQ(heard.usage.completion_tokens, static_cast<int64_t>(heard.ids.size()));
  EXPECT_EQ(heard.logprobs, heard.ids.size());
  int64_t thought = 0;
  for (uint8_t t : heard.thought) thought += t;
  EXPECT_EQ(heard.usage.reasoning_tokens, thought);
  EXPECT_GT(thought, 10);
  EXPECT_LT(thought, heard.usage.completion_tokens);
}

TEST_F(Chat, ABudgetClosesTheThought) {
  Request r = greedy();
  r.think.tokens = 10;
  auto turn = start(asks("37 * 48"), r);
  ASSERT_TRUE(turn);
  const Heard heard = hear(*turn);
  EXPECT_NE(heard.reasoning.find("I have thought long enough"), std::string::npos) << heard.reasoning;
  EXPECT_EQ(heard.content.find("enough"), std::string::npos);
  EXPECT_FALSE(heard.content.empty());
  EXPECT_FALSE(turn->thinking());
}

TEST_F(Chat, ALimitCutsAndSaysSo) {
  Request r = greedy();
  r.max_tokens = 5;
  auto turn = start(asks("37 * 48"), r);
  ASSERT_TRUE(turn);
  const Heard heard = hear(*turn);
  EXPECT_EQ(heard.finish_reason, "length");
  EXPECT_TRUE(heard.content.empty());
  EXPECT_FALSE(heard.reasoning.empty());
}

TEST_F(Chat, AStopTextEndsIt) {
  Request r = greedy();
  r.stop = {"177"};
  auto turn = start(asks("37 * 48"), r);
  ASSERT_TRUE(turn);
  const Heard heard = hear(*turn);
  EXPECT_EQ(heard.finish_reason, "stop");
  EXPECT_EQ((heard.reasoning + heard.content).find("177"), std::string::npos);
}

TEST_F(Chat, IsCancelled) {
  auto turn = start(asks("37 * 48"), greedy());
  ASSERT_TRUE(turn);
  turn->cancel();
  EXPECT_EQ(hear(*turn).finish_reason, "cancelled");
}

TEST_F(Chat, ANextTurnFindsItsBeginningInTheCache) {
  Conversation c = asks("What is 1200 - 345?");
  auto first = start(c, greedy());
  ASSERT_TRUE(first);
  const Heard answer = hear(*first);
  c.messages.push_back({{"role", "assistant"}, {"content", answer.content}});
  c.messages.push_back({{"role", "user"}, {"content", "And what is 9.11 compared with 9.9, the larger one?"}});
  auto second = start(c, greedy());
  ASSERT_TRUE(second);
  hear(*second);
  auto again = start(c, greedy());
  ASSERT_TRUE(again);
  const Heard hit = hear(*again);
  EXPECT_GT(hit.usage.cached_tokens, 0);
  EXPECT_EQ(again->raw(), second->raw());
}

TEST_F(Chat, RecommendedSettingsAreTheModels) {
  const SamplingOptions o = default_sampling(engine_->checkpoint(), engine_->dialect());
  EXPECT_EQ(o.temperature, 0.6);
  EXPECT_EQ(o.top_p, 0.95);
}

// Eighty held-out problems, eight at a time, against another implementation's greedy texts.
TEST_F(Chat, SolvesTheRecordedProblemsToTheLetter) {
  std::ifstream file(source("models/mini/problems.jsonl"));
  std::vector<nlohmann::json> problems;
  std::vector<std::unique_ptr<ChatTurn>> turns;
  for (std::string line; std::getline(file, line);) {
    problems.push_back(nlohmann::json::parse(line));
    turns.push_back(start(asks(problems.back()["question"]), greedy()));
    ASSERT_TRUE(turns.back());
  }
  ASSERT_EQ(problems.size(), 80u);
  int equal = 0;
  for (std::size_t i = 0; i < problems.size(); ++i) {
    const Heard heard = hear(*turns[i]);
    equal += trimmed(heard.reasoning) == problems[i]["reasoning_content"].get<std::string>() &&
             trimmed(heard.content) == problems[i]["content"].get<std::string>();
  }
  EXPECT_GE(equal, 78);
}

}  // namespace
}  // namespace sonde::test
