// Every vector of golden/tokenizers and of the vocabularies beside which other programs left their answers.
#include <openssl/sha.h>

#include "text/tokenizer_support.h"
#include "text/unicode.h"

namespace sonde::test {
namespace {

using nlohmann::json;

struct Case {
  const char* name;
  const char* path;  // among the assets
};

void PrintTo(const Case& which, std::ostream* out) { *out << which.name; }

class TokenizerGolden : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    SONDE_NEEDS_ASSETS();
    // One vocabulary at a time stays open: the tests of a name follow each other.
    static std::string open_name;
    static Opened open;
    if (open_name != GetParam().name) {
      open = open_tokenizer(assets() + "/" + GetParam().path);
      open_name = GetParam().name;
    }
    tokenizer_ = open.tokenizer.get();
    ASSERT_NE(tokenizer_, nullptr);
  }
  std::string file(const std::string& ending) const {
    return find_golden(std::string("tokenizers/") + GetParam().name + ending);
  }
  bool space_in_front() const { return tokenizer_->kind() == "SentencePiece BPE"; }
  const Tokenizer* tokenizer_ = nullptr;
};

using Ids = std::vector<int32_t>;

TEST_P(TokenizerGolden, Strings) {
  auto lines = read_lines(file(".jsonl"));
  ASSERT_GT(lines.size(), 500u);
  for (const json& line : lines) {
    auto text = line["text"].get<std::string>();
    EXPECT_EQ(tokenizer_->encode(text), line["ids"].get<Ids>()) << line["text"];
    if (!line["ids_special"].is_null()) {
      EXPECT_EQ(tokenizer_->encode(text, Special::kAll), line["ids_special"].get<Ids>()) << line["text"];
    }
  }
}

TEST_P(TokenizerGolden, Cuts) {
  if (space_in_front()) {  // SentencePiece does not cut texts; each of its three spaces takes three bytes
    EXPECT_EQ(tokenizer_->cuts("one two, three"), std::vector<int64_t>{21});
    return;
  }
  for (const json& line : read_lines(file(".jsonl"))) {
    if (line["cuts"].is_null()) continue;
    EXPECT_EQ(tokenizer_->cuts(line["text"].get<std::string>()), line["cuts"].get<std::vector<int64_t>>())
        << line["text"];
  }
}

TEST_P(TokenizerGolden, Decoding) {
  auto lines = read_lines(file(".decode.jsonl"));
  ASSERT_GT(lines.size(), 100u);
  for (const json& line : lines) {
    auto ids = line["ids"].get<Ids>();
    std::string bytes = tokenizer_->decode(ids);
    EXPECT_EQ(bytes, from_hex(line["bytes_hex"].get<std::string>())) << line.dump();
    if (line.contains("text") && !space_in_front()) {
      EXPECT_EQ(lossy_utf8(bytes), line["text"].get<std::string>()) << line.dump();
    }
    // Token by token, no character is split.
    Utf8Stream stream;
    std::string text;
    for (int32_t id : ids) {
      std::string part = stream.push(tokenizer_->piece(id));
      EXPECT_TRUE(valid_utf8(part));
      text += part;
    }
    text += stream.finish();
    EXPECT_EQ(text, lossy_utf8(bytes));
  }
}

TEST_P(TokenizerGolden, GivesTextsBack) {
  bool composes = std::string(GetParam().name) == "qwen3";
  for (const json& line : read_lines(file(".jsonl"))) {
    auto text = line["text"].get<std::string>();
    std::string expected = composes ? nfc(text) : text;
    if (space_in_front() && !text.empty()) {  // a space in front; U+2581 is how spaces are written
      expected.insert(expected.begin(), ' ');
      for (size_t at; (at = expected.find("\xE2\x96\x81")) != std::string::npos;) expected.replace(at, 3, " ");
    }
    EXPECT_EQ(tokenizer_->decode(tokenizer_->encode(text)), expected) << line["text"];
    if (!space_in_front() && !composes) {
      EXPECT_EQ(tokenizer_->decode(tokenizer_->encode(text, Special::kAll)), text) << line["text"];
    }
  }
}

TEST_P(TokenizerGolden, NoControlTokenFromText) {
  for (const json& line : read_lines(file(".jsonl"))) {
    for (int32_t id : tokenizer_->encode(line["text"].get<std::string>())) {
      EXPECT_FALSE(tokenizer_->is_control(id)) << id << " from " << line["text"];
    }
  }
  // Every control token written out stays text, between letters too.
  for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
    if (!tokenizer_->is_control(id)) continue;
    for (const std::string& text :
         {std::string(tokenizer_->piece(id)), std::string("a").append(tokenizer_->piece(id)).append("b")}) {
      for (Special special : {Special::kNone, Special::kThink}) {
        for (int32_t out : tokenizer_->encode(text, special)) ASSERT_FALSE(tokenizer_->is_control(out)) << text;
      }
    }
  }
}

TEST_P(TokenizerGolden, LongMixedText) {
  std::string text = read_file(find_golden("tokenizers/mixed.txt"));
  json about = json::parse(read_file(find_golden("tokenizers/about.json")));
  const json& expected = about["mixed"]["ids"][GetParam().name];
  Ids ids = tokenizer_->encode(text);
  ASSERT_EQ(ids.size(), expected["count"].get<size_t>());
  EXPECT_EQ(Ids(ids.begin(), ids.begin() + 16), expected["first"].get<Ids>());
  EXPECT_EQ(Ids(ids.end() - 16, ids.end()), expected["last"].get<Ids>());
  std::string bytes;
  for (int32_t id : ids) {
    for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<char>(static_cast<uint32_t>(id) >> shift));
  }
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest);
  std::string hex;
  for (unsigned char byte : digest) {
    hex += "0123456789abcdef"[byte >> 4];
    hex += "0123456789abcdef"[byte & 15];
  }
  EXPECT_EQ(hex, expected["sha256_u32le"].get<std::string>());
}

INSTANTIATE_TEST_SUITE_P(
    Vocabularies, TokenizerGolden,
    testing::Values(Case{"deepseek-v3", "tokenizers/deepseek-v3/models"}, Case{"qwen3", "tokenizers/qwen3/models"},
                    Case{"llama3", "tokenizers/llama3/models"},
                    Case{"deepseek-llm", "vectors/gguf-vocabs/ggml-vocab-deepseek-llm.gguf"},
                    Case{"deepseek-coder", "vectors/gguf-vocabs/ggml-vocab-deepseek-coder.gguf"},
                    Case{"gpt-2", "vectors/gguf-vocabs/ggml-vocab-gpt-2.gguf"},
                    Case{"llama2", "vectors/gguf-vocabs/ggml-vocab-llama-spm.gguf"},
                    Case{"smollm2", "models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf"}),
    [](const auto& which) {
      std::string name = which.param.name;
      for (char& c : name) {
        if (c == '-') c = '_';
      }
      return name;
    });

// .inp: texts with a line __ggml_vocab_test__ between them; .out: one line of ids for each.
TEST(TokenizerVectors, PairsBesideVocabularies) {
  SONDE_NEEDS_ASSETS();
  const std::string folder = assets() + "/vectors/gguf-vocabs/ggml-vocab-";
  const std::vector<std::pair<std::string, std::string>> cases = {{"deepseek-coder", folder + "deepseek-coder.gguf"},
                                                                  {"deepseek-llm", folder + "deepseek-llm.gguf"},
                                                                  {"gpt-2", folder + "gpt-2.gguf"},
                                                                  {"llama-spm", folder + "llama-spm.gguf"},
                                                                  {"llama-bpe", assets() + "/tokenizers/llama3/models"},
                                                                  {"qwen2", assets() + "/tokenizers/qwen3/models"}};
  for (const auto& [name, path] : cases) {
    SCOPED_TRACE(name);
    Opened opened = open_tokenizer(path);
    ASSERT_NE(opened.tokenizer, nullptr);
    std::string input = read_file(folder + name + ".gguf.inp");
    std::istringstream output(read_file(folder + name + ".gguf.out"));
    const std::string mark = "\n__ggml_vocab_test__\n";
    size_t count = 0;
    for (size_t start = 0; start < input.size(); ++count) {
      size_t end = input.find(mark, start);
      if (end == std::string::npos) break;
      std::string line;
      ASSERT_TRUE(std::getline(output, line));
      std::istringstream numbers(line);
      Ids expected{std::istream_iterator<int32_t>(numbers), std::istream_iterator<int32_t>()};
      std::string text = input.substr(start, end - start);
      EXPECT_EQ(opened.tokenizer->encode(text), expected) << "\"" << text << "\"";
      start = end + mark.size();
    }
    EXPECT_GE(count, 46u);
  }
}

// DeepSeek-V3 by the figures of the architecture's description.
TEST(TokenizerVectors, DeepSeekV3) {
  SONDE_NEEDS_ASSETS();
  Opened opened = open_tokenizer(assets() + "/tokenizers/deepseek-v3/models");
  ASSERT_NE(opened.tokenizer, nullptr);
  const Tokenizer& v3 = *opened.tokenizer;
  const std::vector<std::pair<std::string, Ids>> cases = {
      {"Hello, world!", {19923, 14, 2058, 3}},
      {" Hello  world", {45948, 223, 2058}},
      {"3.14159265", {21, 16, 9926, 25403, 2738}},
      {"a  b   c\n", {67, 223, 291, 262, 274, 201}},
      {"don't I'll", {20385, 1664, 342, 5922}},
      {"\U0001F999 emoji \u2705", {3574, 102, 250, 980, 82644, 82981}},
      {"\r\n\r\nfoo", {204, 201, 204, 201, 40897}},
      {"na\u00EFve caf\u00E9 \u00F1and\u00FA", {2720, 91223, 57664, 110007, 458, 4180}},
      {"x_i = \\frac{1}{2}", {90, 16077, 438, 874, 4015, 93, 19, 3069, 20, 95}},
      {"print(\"x\")\n\n\tif a>=10:\n    return a**2",
       {3098, 1698, 90, 18548, 5733, 260, 26404, 553, 1137, 361, 1354, 260, 666, 20}}};
  for (const auto& [text, ids] : cases) EXPECT_EQ(v3.encode(text), ids) << text;
  EXPECT_EQ(v3.encode("<\uFF5CUser\uFF5C>hi<\uFF5CAssistant\uFF5C>", Special::kAll), (Ids{128803, 6366, 128804}));
  EXPECT_EQ(v3.bos(), 0);
  EXPECT_EQ(v3.eos(), 1);
  EXPECT_TRUE(v3.adds_bos());
  EXPECT_EQ(v3.vocab_size(), 128815);
}

TEST(TokenizerVectors, RealModels) {
  SONDE_NEEDS_ASSETS();
  const std::string models = assets() + "/models/";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"smollm2-135m-instruct", "smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf"},
      {"smollm2-135m-instruct", "smollm2-135m-instruct/tokenizer.json"},
      {"stories260K", "stories260K/hf"},
      {"stories260K", "stories260K/stories260K.F32.gguf"},
      {"babyllama105", "babyllama105/hf"},
      {"babyllama105", "babyllama105/babyllama105.F32.gguf"}};
  for (const auto& [name, path] : cases) {
    SCOPED_TRACE(path);
    std::string text_json, text_config;
    std::unique_ptr<Tokenizer> tokenizer;
    Opened opened;
    if (path.ends_with(".json")) {
      text_json = read_file(models + path);
      auto made = from_json(text_json);
      ASSERT_TRUE(made.ok()) << made.error().message();
      tokenizer = std::move(made).value();
    } else {
      opened = open_tokenizer(models + path);
      ASSERT_NE(opened.tokenizer, nullptr);
      tokenizer = std::move(opened.tokenizer);
    }
    json golden = json::parse(read_file(models + name + "/tokens.json"));
    ASSERT_FALSE(golden["cases"].empty());
    for (const json& line : golden["cases"]) {
      auto text = line["text"].get<std::string>();
      EXPECT_EQ(tokenizer->encode(text), line["ids"].get<Ids>()) << line["text"];
      if (line.contains("ids_special")) {
        EXPECT_EQ(tokenizer->encode(text, Special::kAll), line["ids_special"].get<Ids>()) << line["text"];
      }
    }
  }
}

}  // namespace
}  // namespace sonde::test
