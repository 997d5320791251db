// Output parsers against the golden messages, for every split of the stream.
#include "text/output_parser.h"

#include <gtest/gtest.h>
#include <random>

#include "chat_goldens.h"

namespace sonde {
namespace {

struct Sum {
  std::string reasoning, content;
  std::vector<ToolCallText> calls;

  void add(const MessageDelta& delta) {
    reasoning += delta.reasoning_content;
    content += delta.content;
    for (const auto& call : delta.tool_calls) {
      if (static_cast<size_t>(call.index) == calls.size()) calls.push_back({call.name, ""});
      ASSERT_LT(static_cast<size_t>(call.index), calls.size());
      calls[static_cast<size_t>(call.index)].arguments += call.arguments;
    }
  }
};

// Feeds `raw` cut at `cuts`; checks that the deltas add up to the message.
ParsedMessage parse(const Dialect& dialect, const std::string& prompt_end, const std::string& raw, bool cut,
                    const std::vector<size_t>& cuts) {
  const auto parser = dialect.parser(prompt_end);
  Sum sum;
  size_t at = 0;
  for (size_t end : cuts) {
    sum.add(parser->push(std::string_view(raw).substr(at, end - at)));
    at = end;
  }
  sum.add(parser->push(std::string_view(raw).substr(at)));
  sum.add(parser->finish(cut));
  const ParsedMessage& message = parser->message();
  EXPECT_EQ(sum.reasoning, message.reasoning_content.value_or(""));
  EXPECT_EQ(sum.content, message.content);
  EXPECT_EQ(sum.calls.size(), message.tool_calls.size());
  for (size_t i = 0; i < std::min(sum.calls.size(), message.tool_calls.size()); ++i) {
    EXPECT_EQ(sum.calls[i].name, message.tool_calls[i].name);
    EXPECT_EQ(sum.calls[i].arguments, message.tool_calls[i].arguments);
  }
  return message;
}

std::string summary(const ParsedMessage& message) {
  OrderedJson out = {{"reasoning", message.reasoning_content.value_or("")},
                     {"content", message.content},
                     {"finish", message.finish_reason},
                     {"error", message.error},
                     {"calls", OrderedJson::array()}};
  for (const ToolCallText& call : message.tool_calls) out["calls"].push_back({call.name, call.arguments});
  return out.dump();
}

// Whole, cut in two everywhere, byte by byte, and in random pieces: always the same message.
ParsedMessage parse_every_way(const Dialect& dialect, const std::string& prompt_end, const std::string& raw, bool cut) {
  const ParsedMessage whole = parse(dialect, prompt_end, raw, cut, {});
  const std::string expected = summary(whole);
  std::vector<size_t> all;
  for (size_t i = 1; i < raw.size(); ++i) {
    EXPECT_EQ(summary(parse(dialect, prompt_end, raw, cut, {i})), expected) << "cut at " << i;
    all.push_back(i);
  }
  EXPECT_EQ(summary(parse(dialect, prompt_end, raw, cut, all)), expected) << "byte by byte";
  std::mt19937 random(7);
  for (int round = 0; round < 10; ++round) {
    std::vector<size_t> cuts;
    for (size_t i = 1; i < raw.size(); ++i) {
      if (random() % 5 == 0) cuts.push_back(i);
    }
    EXPECT_EQ(summary(parse(dialect, prompt_end, raw, cut, cuts)), expected) << "random cuts";
  }
  return whole;
}

TEST(Parser, Goldens) {
  int records = 0;
  for (const OrderedJson& record : test::chat_records("parse.jsonl")) {
    const std::string name = record["dialect"];
    if (name == "deepseek-v3.2" || name == "deepseek-v4") continue;
    SCOPED_TRACE(name + " " + record["name"].get<std::string>());
    const auto dialect = dialect_by_name(name);
    ASSERT_TRUE(dialect.ok());
    const ParsedMessage message =
        parse_every_way(*dialect.value(), record["prompt_end"], record["raw"], record["cut_by_limit"]);
    ++records;
    const OrderedJson& expected = record["expected"];
    if (expected.contains("error")) {
      EXPECT_EQ(message.error, expected["error"].get<std::string>());
      continue;
    }
    EXPECT_EQ(message.error, "");
    EXPECT_EQ(message.reasoning_content, expected["reasoning_content"].get<std::string>());
    EXPECT_EQ(message.content, expected["content"].get<std::string>());
    EXPECT_EQ(message.finish_reason, expected["finish_reason"].get<std::string>());
    ASSERT_EQ(message.tool_calls.size(), expected["tool_calls"].size());
    for (size_t i = 0; i < message.tool_calls.size(); ++i) {
      EXPECT_EQ(message.tool_calls[i].name, expected["tool_calls"][i]["name"].get<std::string>());
      EXPECT_EQ(message.tool_calls[i].arguments, expected["tool_calls"][i]["arguments"].get<std::string>());
    }
  }
  EXPECT_EQ(records, 106);
}

struct Case {
  const char *dialect, *prompt_end, *raw, *reasoning, *content, *calls;
};

TEST(Parser, OtherDialects) {
  const std::vector<Case> cases = {
      {"r1-distill-qwen", "<｜Assistant｜><think>\n", "hm\n</think>\n\nyes", "hm\n", "yes", "[]"},
      {"r1-distill-llama", "<｜Assistant｜>", "<think>\nhm</think>yes", "hm", "yes", "[]"},
      {"deepseek-r1-0528", "<｜Assistant｜>", "<think>\nhm\n</think>\nyes", "hm\n", "yes", "[]"},
      {"qwen3", "<|im_start|>assistant\n",
       "<think>\nhm\n</think>\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [1, 2]}}\n</tool_call>", "hm\n",
       "", R"([["f","{\"a\": [1, 2]}"]])"},
      {"qwen3", "assistant\n<think>\n\n</think>\n\n", "plain </think> text", "", "plain </think> text", "[]"},
      {"qwen2.5", "<|im_start|>assistant\n",
       "Look:\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"arguments\": {\"b\":  "
       "2}, \"name\": \"g\"}\n</tool_call>\n",
       "", "Look:", R"([["f","{}"],["g","{\"b\":  2}"]])"},
      {"qwen2.5", "", "<tool_call>{\"name\": 1}</tool_call> and <tool_call>{\"name\":\"g\"}</tool_call> more", "",
       "<tool_call>{\"name\": 1}</tool_call> and more", R"([["g","{}"]])"},
      {"qwen2.5", "", "<tool_call>\n{\"name\": \"f\"", "", "<tool_call>\n{\"name\": \"f\"", "[]"},
      {"qwen2.5", "", "a < b, <tool_ </tool_call>", "", "a < b, <tool_ </tool_call>", "[]"},
      {"llama3.1", "", "{\"name\": \"f\", \"parameters\": {\"q\": \"}\\\"{\"}}", "", "",
       R"([["f","{\"q\": \"}\\\"{\"}"]])"},
      {"llama3.1", "", " <|python_tag|>{\"type\": \"function\", \"name\": \"f\", \"parameters\": {}}", "", "",
       R"([["f","{}"]])"},
      {"llama3.1", "", "{\"name\": \"f\", and so on", "", "{\"name\": \"f\", and so on", "[]"},
      {"llama3.1", "", "{\"x\": 1}", "", "{\"x\": 1}", "[]"},
      {"smollm2", "", "<think>a</think><tool_call>", "", "<think>a</think><tool_call>", "[]"},
      {"llama3", "", "\n\n{\"name\": \"f\"}", "", "\n\n{\"name\": \"f\"}", "[]"},
      {"deepseek-v2", "Assistant:", " Hi\n", "", " Hi\n", "[]"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(std::string(c.dialect) + ": " + c.raw);
    const auto dialect = dialect_by_name(c.dialect);
    ASSERT_TRUE(dialect.ok());
    const ParsedMessage message = parse_every_way(*dialect.value(), c.prompt_end, c.raw, false);
    EXPECT_EQ(message.reasoning_content, c.reasoning);
    EXPECT_EQ(message.content, c.content);
    EXPECT_EQ(message.finish_reason, message.tool_calls.empty() ? "stop" : "tool_calls");
    OrderedJson calls = OrderedJson::array();
    for (const ToolCallText& call : message.tool_calls) calls.push_back({call.name, call.arguments});
    EXPECT_EQ(calls.dump(), c.calls);
  }
}

TEST(Parser, SaysWhenItIsThinking) {
  const auto dialect = dialect_by_name("deepseek-r1");
  ASSERT_TRUE(dialect.ok());
  const auto parser = dialect.value()->parser("<think>\n");
  EXPECT_TRUE(parser->thinking());
  EXPECT_EQ(parser->push("so </th").reasoning_content, "so ");
  EXPECT_TRUE(parser->thinking());
  EXPECT_EQ(parser->push("ink>\n").content, "");
  EXPECT_FALSE(parser->thinking());
  EXPECT_EQ(parser->push("yes").content, "yes");
}

}  // namespace
}  // namespace sonde
