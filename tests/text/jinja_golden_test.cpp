// Published and circulating templates, rendered by the interpreter to the golden prompts.
#include <gtest/gtest.h>
#include <filesystem>

#include "chat_goldens.h"
#include "text/jinja.h"

namespace sonde {
namespace {

struct Source {
  const char *records, *file, *bos, *eos;
};

constexpr const char* kBos = "<｜begin▁of▁sentence｜>";
constexpr const char* kEos = "<｜end▁of▁sentence｜>";

const std::vector<Source> kSources = {
    {"deepseek-v2", "deepseek-v2", kBos, kEos},
    {"deepseek-v2.5", "deepseek-v2.5", kBos, kEos},
    {"deepseek-v3", "deepseek-v3", kBos, kEos},
    {"deepseek-v3-0324", "deepseek-v3-0324", kBos, kEos},
    {"deepseek-r1", "deepseek-r1", kBos, kEos},
    {"deepseek-r1-0528", "deepseek-r1-0528", kBos, kEos},
    {"deepseek-v3.1", "deepseek-v3.1", kBos, kEos},
    {"r1-distill-qwen", "deepseek-r1-distill", kBos, kEos},
    {"r1-distill-llama", "deepseek-r1-distill", kBos, kEos},
    {"qwen2.5", "qwen2.5", "", "<|im_end|>"},
    {"qwen3", "qwen3", "", "<|im_end|>"},
    {"llama3", "llama3", "<|begin_of_text|>", "<|eot_id|>"},
    {"llama3.1", "llama3.1", "<|begin_of_text|>", "<|eot_id|>"},
    {"smollm2", "smollm2", "<|im_start|>", "<|im_end|>"},
    {"variants/distill-without-think", "variants/distill-without-think", kBos, kEos},
    {"variants/own-chatml", "variants/own-chatml", kBos, kEos},
    {"variants/own-macro", "variants/own-macro", kBos, kEos},
    {"variants/r1-two-rounds-spaced", "variants/r1-two-rounds-spaced", kBos, kEos},
    {"variants/r1-without-think", "variants/r1-without-think", kBos, kEos},
};

// Where the record says so, arguments were parsed before rendering.
bool parse_arguments(Conversation& conversation) {
  for (OrderedJson& message : conversation.messages) {
    if (!message.contains("tool_calls") || !message["tool_calls"].is_array()) continue;
    for (OrderedJson& call : message["tool_calls"]) {
      OrderedJson& arguments = call["function"]["arguments"];
      if (!arguments.is_string()) continue;
      OrderedJson parsed = OrderedJson::parse(arguments.get<std::string>(), nullptr, false);
      if (parsed.is_discarded()) return false;
      arguments = parsed;
    }
  }
  return true;
}

class JinjaGolden : public testing::TestWithParam<Source> {};

TEST_P(JinjaGolden, RendersEveryPrompt) {
  const Source& source = GetParam();
  const auto parsed =
      JinjaTemplate::parse(test::read_text(test::golden(std::string("chat/templates/") + source.file + ".jinja")));
  ASSERT_TRUE(parsed.ok()) << parsed.error().message();
  for (const OrderedJson& record : test::chat_records(std::string(source.records) + ".jsonl")) {
    SCOPED_TRACE(record["name"].get<std::string>());
    Conversation conversation = test::conversation_of(record);
    if (record.contains("arguments") && !parse_arguments(conversation)) {
      EXPECT_TRUE(record.contains("error"));
      continue;
    }
    const auto prompt = parsed.value()->render(conversation, {{"bos_token", source.bos}, {"eos_token", source.eos}});
    if (record.contains("error")) {
      ASSERT_FALSE(prompt.ok());
      const std::string said = record["error"];
      EXPECT_EQ(prompt.error().what, said.substr(said.find(": ") + 2));
      EXPECT_NE(prompt.error().where.find("line "), std::string::npos);
      continue;
    }
    ASSERT_TRUE(prompt.ok()) << prompt.error().message();
    ASSERT_EQ(prompt.value().text(), record["prompt"].get<std::string>());
  }
}

TEST_P(JinjaGolden, KnowsWhatMessagesSaid) {
  const Source& source = GetParam();
  const auto parsed =
      JinjaTemplate::parse(test::read_text(test::golden(std::string("chat/templates/") + source.file + ".jinja")));
  ASSERT_TRUE(parsed.ok());
  const auto dialect = dialect_by_name(source.records);
  if (!dialect.ok()) return;  // a variant: no native dialect to compare with
  for (const OrderedJson& record : test::chat_records(std::string(source.records) + ".jsonl")) {
    if (record.contains("error")) continue;
    SCOPED_TRACE(record["name"].get<std::string>());
    Conversation conversation = test::conversation_of(record);
    const auto native = dialect.value()->render(conversation);
    ASSERT_TRUE(native.ok());
    ASSERT_TRUE(!record.contains("arguments") || parse_arguments(conversation));
    const auto prompt = parsed.value()->render(conversation, {{"bos_token", source.bos}, {"eos_token", source.eos}});
    ASSERT_TRUE(prompt.ok());
    const auto marks = [](const Prompt& p) {
      std::string all;
      for (const PromptPart& part : p.parts) all.append(part.text.size(), part.trusted ? 't' : 'u');
      return all;
    };
    // Control tokens must come out alike: compare the marks wherever a "<" stands.
    const std::string text = prompt.value().text(), a = marks(prompt.value()), b = marks(native.value());
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < text.size(); ++i) { ASSERT_TRUE(text[i] != '<' || a[i] == b[i]) << text.substr(i, 40); }
  }
}

INSTANTIATE_TEST_SUITE_P(All, JinjaGolden, testing::ValuesIn(kSources), [](const auto& instance) {
  std::string name = instance.param.records;
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
});

TEST(Jinja, TemplatesOfOthersParse) {
  SONDE_NEEDS_ASSETS();
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(test::assets() + "/vectors/chat-templates")) {
    if (entry.path().extension() != ".jinja") continue;
    const auto parsed = JinjaTemplate::parse(test::read_text(entry.path()));
    EXPECT_TRUE(parsed.ok()) << entry.path() << ": " << (parsed.ok() ? "" : parsed.error().message());
    ++count;
    if (!parsed.ok()) continue;
    Conversation conversation;
    conversation.messages = OrderedJson::parse(R"([{"role":"system","content":"S"},{"role":"user","content":"Hello"},
      {"role":"assistant","content":"Hi"},{"role":"user","content":"Bye"}])");
    const auto prompt = parsed.value()->render(conversation, {{"bos_token", kBos}, {"eos_token", kEos}});
    ASSERT_TRUE(prompt.ok()) << entry.path() << prompt.error().message();
    EXPECT_NE(prompt.value().text().find("Bye"), std::string::npos) << entry.path();
  }
  EXPECT_GE(count, 9);
}

}  // namespace
}  // namespace sonde
