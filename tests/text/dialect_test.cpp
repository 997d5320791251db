// Prompts of the native dialects against the golden prompts, byte for byte.
#include "text/dialect.h"

#include <gtest/gtest.h>
#include <fstream>

#include "chat_goldens.h"

namespace sonde {
namespace {

using test::chat_records;
using test::conversation_of;

class DialectGolden : public testing::TestWithParam<std::string> {};

TEST_P(DialectGolden, RendersEveryPrompt) {
  const auto dialect = dialect_by_name(GetParam());
  ASSERT_TRUE(dialect.ok());
  int prompts = 0, errors = 0;
  for (const OrderedJson& record : chat_records(GetParam() + ".jsonl")) {
    SCOPED_TRACE(record["name"].get<std::string>());
    const auto prompt = dialect.value()->render(conversation_of(record));
    if (record.contains("error")) {
      EXPECT_FALSE(prompt.ok());
      ++errors;
      const std::string said = record["error"];
      if (!prompt.ok() && said.starts_with("TemplateError: ")) { EXPECT_EQ(prompt.error().what, said.substr(15)); }
      continue;
    }
    ASSERT_TRUE(prompt.ok()) << prompt.error().message();
    EXPECT_EQ(prompt.value().text(), record["prompt"].get<std::string>());
    ++prompts;
  }
  EXPECT_GE(prompts, 45);
  RecordProperty("prompts", prompts);
  RecordProperty("errors", errors);
}

TEST_P(DialectGolden, MessageTextIsNeverTrusted) {
  const auto dialect = dialect_by_name(GetParam());
  ASSERT_TRUE(dialect.ok());
  Conversation conversation;
  conversation.messages = OrderedJson::parse(R"([{"role":"system","content":"@1@"},{"role":"user","content":"@2@"},
    {"role":"assistant","content":"@3@"},{"role":"user","content":"@4@"}])");
  const auto prompt = dialect.value()->render(conversation);
  ASSERT_TRUE(prompt.ok());
  int given = 0;
  for (const PromptPart& part : prompt.value().parts) {
    EXPECT_TRUE(!part.trusted || part.text.find('@') == std::string::npos) << part.text;
    given += !part.trusted;
  }
  EXPECT_GE(given, 4);
}

TEST_P(DialectGolden, GenerationPromptEndsThePrompt) {
  const auto dialect = dialect_by_name(GetParam());
  ASSERT_TRUE(dialect.ok());
  Conversation conversation;
  conversation.messages = OrderedJson::parse(R"([{"role":"user","content":"Hi"}])");
  const auto prompt = dialect.value()->render(conversation);
  ASSERT_TRUE(prompt.ok());
  EXPECT_TRUE(prompt.value().text().ends_with(dialect.value()->generation_prompt()));
}

TEST_P(DialectGolden, RepairedConversationsRender) {
  const auto dialect = dialect_by_name(GetParam());
  ASSERT_TRUE(dialect.ok());
  Conversation conversation;
  conversation.messages =
      OrderedJson::parse(R"([{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
    {"role":"assistant","content":null},{"role":"assistant","tool_calls":null},{"role":"user","content":"Hi"}])");
  repair(conversation);
  const auto prompt = dialect.value()->render(conversation);
  ASSERT_TRUE(prompt.ok()) << prompt.error().message();
  EXPECT_NE(prompt.value().text().find("ab"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(All, DialectGolden, testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (std::string_view name : dialect_names()) names.emplace_back(name);
                           return names;
                         }()),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           for (char& c : name) {
                             if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
                           }
                           return name;
                         });

TEST(Dialect, UnknownNameNamesAll) {
  const auto dialect = dialect_by_name("gpt-5");
  ASSERT_FALSE(dialect.ok());
  EXPECT_NE(dialect.error().message().find("deepseek-r1-0528"), std::string::npos);
  EXPECT_EQ(dialect_names().size(), 14u);
}

TEST(Dialect, RefusesWhatIsNoConversation) {
  const auto dialect = dialect_by_name("qwen3");
  ASSERT_TRUE(dialect.ok());
  for (const char* messages : {"{}", "[1]", "[[]]", "null", "[]"}) {
    Conversation conversation;
    conversation.messages = OrderedJson::parse(messages);
    EXPECT_FALSE(dialect.value()->render(conversation).ok()) << messages;
  }
  Conversation deep;
  deep.messages = OrderedJson::parse(R"([{"role":"user","content":"x"}])");
  deep.tools = OrderedJson::parse("[" + std::string(5000, '[') + std::string(5000, ']') + "]");
  EXPECT_FALSE(dialect.value()->render(deep).ok());
}

}  // namespace
}  // namespace sonde
