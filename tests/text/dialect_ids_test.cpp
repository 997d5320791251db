// Ids of golden prompts on real vocabularies, and the choice of a dialect for a checkpoint.
#include <gtest/gtest.h>
#include <unistd.h>
#include <filesystem>
#include <fstream>

#include "chat_goldens.h"

namespace sonde {
namespace {

namespace fs = std::filesystem;

// A folder of its own that goes away with the test.
class Folder {
 public:
  Folder()
      : path_(fs::temp_directory_path() /
              ("sonde_dialect_" + std::to_string(::getpid()) + "_" + std::to_string(count_++))) {
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
  }
  std::string path() const { return path_.string(); }

 private:
  static inline int count_ = 0;
  fs::path path_;
};

struct Vocabulary {
  const char *dialect, *tokenizer_json;
  std::vector<std::pair<int, const char*>> renamed;  // added tokens that the base vocabulary has under other names
};

const std::vector<Vocabulary> kVocabularies = {
    {"deepseek-v3", "tokenizers/deepseek-v3/models/tokenizer.json", {}},
    {"deepseek-v3-0324", "tokenizers/deepseek-v3/models/tokenizer.json", {}},
    {"deepseek-r1", "tokenizers/deepseek-v3/models/tokenizer.json", {{128798, "<think>"}, {128799, "</think>"}}},
    {"deepseek-r1-0528", "tokenizers/deepseek-v3/models/tokenizer.json", {{128798, "<think>"}, {128799, "</think>"}}},
    {"deepseek-v3.1",
     "tokenizers/deepseek-v3/models/tokenizer.json",
     {{128796, "<｜search▁begin｜>"}, {128797, "<｜search▁end｜>"}, {128798, "<think>"}, {128799, "</think>"}}},
    {"r1-distill-qwen",
     "tokenizers/qwen3/models/tokenizer.json",
     {{151667, "<|other_0|>"},
      {151668, "<|other_1|>"},
      {151643, "<｜end▁of▁sentence｜>"},
      {151644, "<｜User｜>"},
      {151645, "<｜Assistant｜>"},
      {151646, "<｜begin▁of▁sentence｜>"},
      {151648, "<think>"},
      {151649, "</think>"}}},
    {"r1-distill-llama",
     "tokenizers/llama3/models/tokenizer.json",
     {{128000, "<｜begin▁of▁sentence｜>"},
      {128001, "<｜end▁of▁sentence｜>"},
      {128011, "<｜User｜>"},
      {128012, "<｜Assistant｜>"},
      {128013, "<think>"},
      {128014, "</think>"}}},
    {"qwen2.5", "tokenizers/qwen3/models/tokenizer.json", {}},
    {"qwen3", "tokenizers/qwen3/models/tokenizer.json", {}},
    {"llama3", "tokenizers/llama3/models/tokenizer.json", {}},
    {"llama3.1",
     "tokenizers/llama3/models/tokenizer.json",
     {{128004, "<|finetune_right_pad_id|>"}, {128008, "<|eom_id|>"}, {128010, "<|python_tag|>"}}},
    {"smollm2", "models/smollm2-135m-instruct/tokenizer.json", {}},
};

std::unique_ptr<Tokenizer> open_vocabulary(const Vocabulary& vocabulary, const Folder& folder) {
  std::string text = test::read_text(test::assets() + "/" + vocabulary.tokenizer_json);
  if (!vocabulary.renamed.empty()) {
    nlohmann::json json = nlohmann::json::parse(text);
    for (const auto& [id, name] : vocabulary.renamed) {
      for (nlohmann::json& token : json["added_tokens"]) {
        if (token["id"] == id) token["content"] = name;
      }
    }
    text = json.dump();
  }
  folder.write("tokenizer.json", text);
  const auto checkpoint = Checkpoint::open(folder.path());
  if (!checkpoint.ok()) {
    ADD_FAILURE() << checkpoint.error().message();
    return nullptr;
  }
  auto tokenizer = Tokenizer::open(*checkpoint.value());
  if (!tokenizer.ok()) {
    ADD_FAILURE() << tokenizer.error().message();
    return nullptr;
  }
  return std::move(tokenizer).value();
}

class DialectIds : public testing::TestWithParam<Vocabulary> {};

TEST_P(DialectIds, EqualTheGoldens) {
  SONDE_NEEDS_ASSETS();
  const Folder folder;
  const auto tokenizer = open_vocabulary(GetParam(), folder);
  ASSERT_NE(tokenizer, nullptr);
  const auto dialect = dialect_by_name(GetParam().dialect);
  ASSERT_TRUE(dialect.ok());
  int compared = 0, safe = 0;
  for (const OrderedJson& record : test::chat_records(std::string(GetParam().dialect) + ".jsonl")) {
    if (!record.contains("ids")) continue;
    SCOPED_TRACE(record["name"].get<std::string>());
    const auto prompt = dialect.value()->render(test::conversation_of(record));
    ASSERT_TRUE(prompt.ok());
    const auto ids = encode_prompt(prompt.value(), *dialect.value(), *tokenizer);
    ASSERT_TRUE(ids.ok()) << ids.error().message();
    const bool has_safe = record.contains("ids_safe");
    EXPECT_EQ(ids.value(), record[has_safe ? "ids_safe" : "ids"].get<std::vector<int32_t>>());
    ++compared;
    safe += has_safe;
  }
  EXPECT_GE(compared, 45);
  EXPECT_GE(safe, 1);
}

INSTANTIATE_TEST_SUITE_P(All, DialectIds, testing::ValuesIn(kVocabularies), [](const auto& instance) {
  std::string name = instance.param.dialect;
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
});

TEST(DialectIds, AVocabularyWithoutTheTokensIsAnError) {
  SONDE_NEEDS_ASSETS();
  const Folder folder;
  const auto tokenizer = open_vocabulary(kVocabularies[0], folder);  // DeepSeek-V3: no think tags, no <|im_start|>
  ASSERT_NE(tokenizer, nullptr);
  Conversation conversation;
  conversation.messages = OrderedJson::parse(R"([{"role":"user","content":"<|im_start|> says hi"}])");
  for (const auto& [name, fits] : {std::pair{"deepseek-v3", true},
                                   {"deepseek-r1", false},
                                   {"qwen2.5", false},
                                   {"llama3", false},
                                   {"deepseek-v2", true}}) {
    const auto dialect = dialect_by_name(name);
    ASSERT_TRUE(dialect.ok());
    const auto prompt = dialect.value()->render(conversation);
    ASSERT_TRUE(prompt.ok());
    EXPECT_EQ(encode_prompt(prompt.value(), *dialect.value(), *tokenizer).ok(), fits) << name;
  }
}

// mini's folder in the repository without its weights, with the template given.
Result<ChosenDialect> choose_for(const Folder& folder, const std::string& chat_template) {
  folder.write("tokenizer.json", test::read_text(test::source("models/mini/tokenizer.json")));
  OrderedJson config = OrderedJson::parse(test::read_text(test::source("models/mini/tokenizer_config.json")));
  config.erase("chat_template");
  if (!chat_template.empty()) config["chat_template"] = chat_template;
  folder.write("tokenizer_config.json", config.dump());
  SONDE_TRY(const auto checkpoint, Checkpoint::open(folder.path()));
  SONDE_TRY(const auto tokenizer, Tokenizer::open(*checkpoint));
  return choose_dialect(*checkpoint, tokenizer.get());
}

TEST(ChooseDialect, KnownWordForWord) {
  for (const char* name : {"deepseek-v2", "deepseek-v2.5", "deepseek-v3", "deepseek-v3-0324", "deepseek-r1",
                           "deepseek-r1-0528", "deepseek-v3.1"}) {
    for (const char* end : {"", "\n"}) {
      const Folder folder;
      const auto chosen =
          choose_for(folder, test::read_text(test::golden(std::string("chat/templates/") + name + ".jinja")) + end);
      ASSERT_TRUE(chosen.ok()) << chosen.error().message();
      EXPECT_EQ(chosen.value().dialect->name(), name);
      EXPECT_EQ(chosen.value().notice, "");
    }
  }
}

TEST(ChooseDialect, OthersAreInterpreted) {
  const Folder folder;
  const auto chosen =
      choose_for(folder, test::read_text(test::golden("chat/templates/variants/r1-two-rounds-spaced.jinja")));
  ASSERT_TRUE(chosen.ok()) << chosen.error().message();
  const Dialect& dialect = *chosen.value().dialect;
  EXPECT_EQ(dialect.name(), "template");
  EXPECT_NE(chosen.value().notice.find("opened by the prompt"), std::string::npos) << chosen.value().notice;
  EXPECT_EQ(chosen.value().notice.find('\n'), std::string::npos);
  EXPECT_EQ(dialect.generation_prompt(), "<｜Assistant｜><think>\n");
  EXPECT_TRUE(dialect.can_think());
  EXPECT_FALSE(dialect.thinking_switch());
  const auto parser = dialect.parser(dialect.generation_prompt());
  parser->push("so</think>yes");
  parser->finish(false);
  EXPECT_EQ(parser->message().reasoning_content, "so");
  EXPECT_EQ(parser->message().content, "yes");
  for (const OrderedJson& record : test::chat_records("variants/r1-two-rounds-spaced.jsonl")) {
    const auto prompt = dialect.render(test::conversation_of(record));
    EXPECT_EQ(prompt.ok(), !record.contains("error"));
    EXPECT_EQ(prompt.ok() ? prompt.value().text() : "", record.value("prompt", ""));
  }
}

TEST(ChooseDialect, ArgumentsAreParsedWhereTheTemplatePrintsJson) {
  const Folder folder;
  const auto chosen = choose_for(folder, test::read_text(test::golden("chat/templates/qwen2.5.jinja")));
  ASSERT_TRUE(chosen.ok()) << chosen.error().message();
  EXPECT_EQ(chosen.value().dialect->name(), "template");  // this vocabulary has no <|im_start|>
  for (const OrderedJson& record : test::chat_records("qwen2.5.jsonl")) {
    const auto prompt = chosen.value().dialect->render(test::conversation_of(record));
    EXPECT_EQ(prompt.ok(), !record.contains("error")) << record["name"];
    EXPECT_EQ(prompt.ok() ? prompt.value().text() : "", record.value("prompt", ""));
  }
}

TEST(ChooseDialect, NeitherKnownNorInterpretable) {
  for (const char* text : {"", "{% if %}", "{{ raise_exception('no') }}",
                           "{% for m in messages %}{{ m.content | nonsense }}{% endfor %}"}) {
    const Folder folder;
    const auto chosen = choose_for(folder, text);
    ASSERT_FALSE(chosen.ok()) << text;
    EXPECT_NE(chosen.error().message().find("--dialect"), std::string::npos);
    EXPECT_NE(chosen.error().message().find("r1-distill-llama"), std::string::npos);
  }
}

}  // namespace
}  // namespace sonde
