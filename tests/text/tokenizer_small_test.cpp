// What needs no large file: small tokenizers beside answers of the published library, and rules one by one.
#include "files/convert_parts.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/split.h"
#include "text/tokenizer_support.h"
#include "text/unicode.h"

namespace sonde::test {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

void expect_answers(const Tokenizer& tokenizer, const std::string& answers, Special special) {
  auto lines = read_lines(golden("tokenizers/" + answers));
  ASSERT_GT(lines.size(), 100u);
  for (const json& line : lines) {
    auto text = line["text"].get<std::string>();
    EXPECT_EQ(tokenizer.encode(text), line["ids"].get<Ids>()) << line["text"];
    if (line.contains("ids_special")) {
      EXPECT_EQ(tokenizer.encode(text, special), line["ids_special"].get<Ids>()) << line["text"];
    }
  }
}

TEST(TokenizerSmall, AnswersOfThePublishedLibrary) {
  for (const std::string name : {"byte_level", "gpt2_style", "characters", "characters_unk"}) {
    SCOPED_TRACE(name);
    std::string text = read_file(golden("tokenizers/" + name + ".json"));
    auto tokenizer = from_json(text);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().message();
    expect_answers(**tokenizer, name + ".small.jsonl", Special::kAll);
  }
}

// What conversion writes for the pre-tokenizer's name of a GGUF file splits as the name does.
TEST(TokenizerSmall, ConvertedVocabulariesGiveTheSameIds) {
  for (const char* name : {"v2-lite-split.Q8_0", "v3-split-mtp.BF16", "qwen2.Q4_0", "qwen3-wide.Q6_K", "llama.Q5_1"}) {
    SCOPED_TRACE(name);
    const auto checkpoint = Checkpoint::open(find_golden(std::string("gguf/") + name + ".gguf"));
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message();
    const auto original = Tokenizer::open(**checkpoint);
    ASSERT_TRUE(original.ok()) << original.error().message();
    const auto written = tokenizer_json(**checkpoint);
    ASSERT_TRUE(written.ok()) << written.error().message();
    const std::string text = written->dump();
    const auto converted = from_json(text);
    ASSERT_TRUE(converted.ok()) << converted.error().message();
    for (const json& line : read_lines(golden("tokenizers/byte_level.small.jsonl"))) {
      const auto words = line["text"].get<std::string>();
      EXPECT_EQ((*converted)->encode(words), (*original)->encode(words)) << line["text"];
    }
  }
}

TEST(TokenizerSmall, Mini) {
  std::string text = read_file(source("models/mini/tokenizer.json"));
  auto tokenizer = from_json(text, read_file(source("models/mini/tokenizer_config.json")));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().message();
  const Tokenizer& mini = **tokenizer;
  expect_answers(mini, "mini.small.jsonl", Special::kAll);
  EXPECT_EQ(mini.kind(), "byte-level BPE");
  EXPECT_EQ(mini.vocab_size(), 1024);
  EXPECT_EQ(mini.bos(), 0);
  EXPECT_EQ(mini.eos(), 1);
  auto user = mini.find("<\uFF5CUser\uFF5C>"), think = mini.find("<think>");
  ASSERT_TRUE(user && think);
  EXPECT_TRUE(mini.is_control(*user));
  EXPECT_FALSE(mini.is_control(*think));
  // In the text of a message only the think tags count.
  Ids ids = mini.encode("<\uFF5CUser\uFF5C><think>", Special::kThink);
  EXPECT_EQ(ids.back(), *think);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), *user), 0);
  ids = mini.encode("<\uFF5CUser\uFF5C><think>", Special::kNone);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), *think), 0);
  EXPECT_EQ(mini.decode(ids), "<\uFF5CUser\uFF5C><think>");
  // Out of range: nothing.
  EXPECT_EQ(mini.decode(Ids{-1, 1024, 1 << 30}), "");
  EXPECT_EQ(mini.piece(-5), "");
  EXPECT_FALSE(mini.is_control(-1));
  EXPECT_FALSE(mini.is_control(99999));
}

// Every byte string encodes; what is not UTF-8 counts as U+FFFD.
TEST(TokenizerSmall, BrokenUtf8) {
  std::string text = read_file(source("models/mini/tokenizer.json"));
  auto tokenizer = from_json(text);
  ASSERT_TRUE(tokenizer.ok());
  const std::vector<std::pair<std::string, std::string>> cases = {{"a\xFFz", "a\uFFFDz"},
                                                                  {"\xE4\xBD", "\uFFFD"},
                                                                  {"\xF0\x9F\xA6x", "\uFFFDx"},
                                                                  {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},
                                                                  {"\xC0\xAF", "\uFFFD\uFFFD"},
                                                                  {"\x80", "\uFFFD"},
                                                                  {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
                                                                  {"\xE0\x80\x80", "\uFFFD\uFFFD\uFFFD"},
                                                                  {"\xF0\x9F\xA6\xE4\xBD\xA0", "\uFFFD\u4F60"}};
  for (const auto& [broken, mended] : cases) {
    EXPECT_EQ(lossy_utf8(broken), mended);
    EXPECT_EQ((*tokenizer)->encode(broken), (*tokenizer)->encode(mended));
    // However a stream is cut.
    for (size_t a = 0; a <= broken.size(); ++a) {
      for (size_t b = a; b <= broken.size(); ++b) {
        Utf8Stream stream;
        std::string out = stream.push(broken.substr(0, a));
        out += stream.push(broken.substr(a, b - a));
        out += stream.push(broken.substr(b));
        out += stream.finish();
        EXPECT_EQ(out, mended);
      }
    }
  }
}

TEST(TokenizerSmall, StreamHoldsBackUnfinishedCharacters) {
  const std::string text = "a\u00E9\u4F60\U0001F999.";
  Utf8Stream stream;
  std::string out;
  for (char c : text) {
    std::string part = stream.push(std::string(1, c));
    EXPECT_TRUE(valid_utf8(part));
    out += part;
    EXPECT_TRUE(text.starts_with(out));
  }
  EXPECT_EQ(out, text);
  EXPECT_EQ(stream.finish(), "");
}

TEST(TokenizerSmall, NfcOfSpans) {
  EXPECT_EQ(nfc("abc e\u0301 x"), "abc \u00E9 x");
  EXPECT_EQ(nfc("\u1100\u1161\u11A8"), "\uAC01");
  EXPECT_EQ(nfc("\uAC00\u11A8"), "\uAC01");
  EXPECT_EQ(nfc("a\u0323\u0307"), "\u1EA1\u0307");
  EXPECT_EQ(nfc("a\u0307\u0323"), "\u1EA1\u0307");
  EXPECT_EQ(nfc("\u212B\u2126"), "\u00C5\u03A9");
  EXPECT_EQ(nfc("\u0301"), "\u0301");
  EXPECT_EQ(nfc("\uF900"), "\u8C48");  // a compatibility ideograph
  EXPECT_TRUE(surely_nfc("plain \u4F60\u597D \uD55C\uAD6D"));
  EXPECT_FALSE(surely_nfc("e\u0301"));
}

// \s is White_Space: neither U+180E nor U+200B nor the separators U+001C..U+001F.
TEST(TokenizerSmall, WhiteSpace) {
  auto splitter = Splitter::create({"\\s"}, "test");
  ASSERT_TRUE(splitter.ok());
  Splitter::Scratch scratch;
  for (char32_t code = 1; code < 0x3100; ++code) {
    std::string text = "a";
    append_utf8(text, code);
    text += "a";
    EXPECT_EQ(splitter->split(text, scratch).size(), is_white_space(code) ? 3u : 1u)
        << std::hex << static_cast<uint32_t>(code);
  }
  EXPECT_EQ(white_space_pattern("[^\\s\\\\s]\\S\\p{L}"), "[^\\p{White_Space}\\\\s]\\P{White_Space}\\p{L}");
}

TEST(TokenizerSmall, SplitsInSequence) {
  auto splitter = Splitter::create({"[0-9]{1,3}", " ?[a-z]+", "\\s+$"}, "test");
  ASSERT_TRUE(splitter.ok());
  Splitter::Scratch scratch;
  EXPECT_EQ(splitter->split("ab1234 cd!  ", scratch), (std::vector<size_t>{2, 5, 6, 9, 10, 12}));
  EXPECT_EQ(splitter->split("", scratch), std::vector<size_t>{});
  // Empty matches make no pieces.
  auto empty = Splitter::create({"x*"}, "test");
  ASSERT_TRUE(empty.ok());
  EXPECT_EQ(empty->split("a\u00E9xxb", scratch), (std::vector<size_t>{3, 5, 6}));
  auto broken = Splitter::create({"(a"}, "tokenizer.json");
  ASSERT_FALSE(broken.ok());
  EXPECT_NE(broken.error().message().find("(a"), std::string::npos);
}

// The two ways of merging agree, ties and all.
TEST(TokenizerSmall, ShortAndLongMergesAgree) {
  MergeTable merges;
  for (int32_t a = 0; a < 12; ++a) {
    for (int32_t b = 0; b < 12; ++b) {
      if ((a * 7 + b * 3) % 5 < 2) merges.set(a, b, {static_cast<uint32_t>((a * 5 + b) % 9), (a + b) % 12});
    }
  }
  uint32_t state = 1;
  for (int round = 0; round < 200; ++round) {
    Ids symbols(40);
    for (int32_t& id : symbols) state = state * 1664525 + 1013904223, id = static_cast<int32_t>(state >> 16) % 12;
    // The long way, by a wall of symbols that never merge.
    Ids longer = symbols;
    longer.insert(longer.end(), 100, 11000);
    symbols.resize(merge_symbols(merges, symbols.data(), symbols.size()));
    longer.resize(merge_symbols(merges, longer.data(), longer.size()));
    ASSERT_EQ(longer.size(), symbols.size() + 100);
    EXPECT_TRUE(std::equal(symbols.begin(), symbols.end(), longer.begin()));
  }
}

// A megabyte without a break ends in reasonable time, for letters, spaces, digits and marks alike.
TEST(TokenizerSmall, LongRuns) {
  std::string text = read_file(source("models/mini/tokenizer.json"));
  auto tokenizer = from_json(text);
  ASSERT_TRUE(tokenizer.ok());
  std::string characters = read_file(golden("tokenizers/characters.json")),
              composing = read_file(golden("tokenizers/byte_level.json"));
  auto other = from_json(characters), third = from_json(composing);
  ASSERT_TRUE(other.ok() && third.ok());
  for (const std::string unit : {"a", " ", "\n", "7", "\u0301", "\u0301\u0327", "<", "ab", "\u4F60", " \n"}) {
    std::string run;
    while (run.size() < 1'000'000) run += unit;
    EXPECT_EQ((*tokenizer)->decode((*tokenizer)->encode(run)), run);
    EXPECT_EQ((*other)->decode((*other)->encode(run)), std::string(" ") + run);
    EXPECT_EQ((*third)->decode((*third)->encode(run)), nfc(run));
    run += "x";
    EXPECT_EQ((*tokenizer)->decode((*tokenizer)->encode(run)), run);
  }
}

TEST(TokenizerSmall, FilesThatSayWhatCannotBe) {
  auto fails = [](const std::string& text, const std::string& words) {
    auto made = from_json(text);
    ASSERT_FALSE(made.ok()) << text;
    EXPECT_NE(made.error().message().find(words), std::string::npos) << made.error().message();
  };
  fails("{", "not a tokenizer");
  fails("[]", "model");
  fails("{\"\xFF\xFF\xFF", "UTF-8");
  fails("{\"model\":{\"type\":\"Unigram\",\"vocab\":{\"a\":0}}}", "Unigram");
  fails("{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}", "no vocabulary");
  fails("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", "out of range");
  fails("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":2000000000},\"merges\":[]}}", "out of range");
  fails("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":\"b\"},\"merges\":[]}}", "wrong kind");
  fails("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":{}},\"merges\":[]}}", "object inside");
  fails("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", "not in the vocabulary");
  fails("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"ab\"]}}", "not two pieces");
  fails("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", "fewer than two");
  fails("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"b\",\"c\"]]}}", "more than two");
  const std::string rest = "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}";
  fails("{\"normalizer\":{\"type\":\"NFKC\"}," + rest, "NFKC");
  fails("{\"pre_tokenizer\":{\"type\":\"Whitespace\"}," + rest, "Whitespace");
  fails(
      "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Removed\",\"invert\":false}"
      "," +
          rest,
      "Removed");
  fails(
      "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":\"Isolated\",\"invert\":false}"
      "," +
          rest,
      "does not compile");
  fails("{\"added_tokens\":[{\"id\":-3,\"content\":\"x\"}]," + rest, "out of range");
  fails("{\"added_tokens\":[{\"id\":3}]," + rest, "without content");
  fails("{\"x\":" + std::string(100'000, '[') + "," + rest, "too deeply");
  EXPECT_TRUE(from_json("{" + rest).ok());
}

GgufVocabulary small_gguf() {
  GgufVocabulary out;
  out.model = "gpt2";
  out.pre = "gpt-2";
  out.tokens = {"a", "b", "c", "ab", "abc", "<|end|>", "[PAD6]", "\u00FC", "\u0120", "<think>", "\u00C3", "\u00BC"};
  out.types = {1, 1, 1, 1, 1, 3, 4, 4, 1, 4, 1, 1};
  out.merges = {"a b", "ab c"};
  out.ids = {{"eos", 5}};
  return out;
}

Result<std::unique_ptr<Tokenizer>> from_gguf(const GgufVocabulary& vocabulary) {
  TokenizerSource source;
  source.gguf = vocabulary;
  return Tokenizer::open(source);
}

TEST(TokenizerGguf, AddedTokensByTheirTypes) {
  auto made = from_gguf(small_gguf());
  ASSERT_TRUE(made.ok()) << made.error().message();
  const Tokenizer& tokenizer = **made;
  EXPECT_EQ(tokenizer.encode("abc"), Ids{4});
  EXPECT_EQ(tokenizer.encode("ab\u00FCc"), (Ids{3, 7, 2}));  // a plain letter counts always
  EXPECT_EQ(tokenizer.decode(Ids{7, 8, 10, 11}), "\u00FC \u00FC");
  EXPECT_EQ(tokenizer.encode("a<|end|>", Special::kAll), (Ids{0, 5}));
  EXPECT_EQ(tokenizer.encode("[PAD6]a", Special::kAll), Ids{0});  // the other characters are not in this vocabulary
  EXPECT_EQ(tokenizer.encode("<think>a", Special::kThink), (Ids{9, 0}));
  EXPECT_EQ(tokenizer.encode("<think>a", Special::kNone), Ids{0});
  EXPECT_TRUE(tokenizer.is_control(5));
  EXPECT_FALSE(tokenizer.is_control(7));
  EXPECT_EQ(tokenizer.eos(), 5);
  EXPECT_FALSE(tokenizer.adds_bos());
}

TEST(TokenizerGguf, NamesOfPreTokenizers) {
  GgufVocabulary vocabulary = small_gguf();
  for (const char* name : {"deepseek-v3", "deepseek-llm", "deepseek-coder", "deepseek-r1-qwen", "qwen2", "llama-bpe",
                           "gpt-2", "smollm", "default", ""}) {
    vocabulary.pre = name;
    auto made = from_gguf(vocabulary);
    ASSERT_TRUE(made.ok()) << name << ": " << made.error().message();
    EXPECT_EQ((*made)->encode("abc"), Ids{4}) << name;
  }
  vocabulary.pre = "martian";
  auto made = from_gguf(vocabulary);
  ASSERT_FALSE(made.ok());
  for (const char* word : {"martian", "deepseek-v3", "smollm", "default"}) {
    EXPECT_NE(made.error().message().find(word), std::string::npos) << made.error().message();
  }
  vocabulary.pre = "gpt-2";
  vocabulary.model = "bert";
  made = from_gguf(vocabulary);
  ASSERT_FALSE(made.ok());
  EXPECT_NE(made.error().message().find("bert"), std::string::npos);
}

// Where a piece is cut differs by name.
TEST(TokenizerGguf, SplitsByName) {
  GgufVocabulary vocabulary = small_gguf();
  auto cuts = [&](const char* name, const char* text) {
    vocabulary.pre = name;
    auto made = from_gguf(vocabulary);
    return made.ok() ? (*made)->cuts(text) : std::vector<int64_t>{-1};
  };
  using Cuts = std::vector<int64_t>;
  EXPECT_EQ(cuts("deepseek-v3", "1234 x"), (Cuts{3, 4, 6}));
  EXPECT_EQ(cuts("qwen2", "1234 x"), (Cuts{1, 2, 3, 4, 6}));
  EXPECT_EQ(cuts("llama-bpe", "1234 x"), (Cuts{3, 4, 6}));
  EXPECT_EQ(cuts("gpt-2", "1234 x"), (Cuts{4, 6}));
  EXPECT_EQ(cuts("smollm", "12 x"), (Cuts{1, 2, 4}));
  EXPECT_EQ(cuts("default", "1234, x"), (Cuts{3, 4, 5, 7}));
  EXPECT_EQ(cuts("deepseek-llm", "a\nb  "), (Cuts{1, 2, 3, 5}));
  EXPECT_EQ(cuts("deepseek-coder", "a, 12"), (Cuts{1, 2, 3, 4, 5}));
  EXPECT_EQ(cuts("qwen2", "e\u0301 x"), (Cuts{2, 4}));  // after NFC
  EXPECT_EQ(cuts("llama-bpe", "it'\u017F"), (Cuts{2, 5}));
}

TEST(TokenizerGguf, ScoresOfSentencePiece) {
  GgufVocabulary vocabulary;
  vocabulary.model = "llama";
  vocabulary.tokens = {"<unk>", "<s>", "</s>", "\u2581", "a", "b", "ab", "ba", "\u2581a", "bab", "s"};
  vocabulary.types = {2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1};
  vocabulary.scores = {0, 0, 0, -9, -9, -9, -1, -1, -5, -2, -9};
  vocabulary.ids = {{"bos", 1}, {"eos", 2}};
  auto made = from_gguf(vocabulary);
  ASSERT_TRUE(made.ok()) << made.error().message();
  EXPECT_EQ((*made)->kind(), "SentencePiece BPE");
  EXPECT_TRUE((*made)->adds_bos());
  EXPECT_EQ((*made)->encode("aba"), (Ids{3, 6, 4}));  // equal scores: the leftmost
  EXPECT_EQ((*made)->encode("bab"), (Ids{3, 9}));     // b + ab, by its own score
  EXPECT_EQ((*made)->encode("a"), Ids{8});
  EXPECT_EQ((*made)->encode(""), Ids{});
  EXPECT_EQ((*made)->encode("xyza"), (Ids{3, 0, 4}));  // no bytes: one <unk> for a run
  Ids ids = (*made)->encode("<s>");
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 1), 0);
  vocabulary.add_space_prefix = false;
  made = from_gguf(vocabulary);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ((*made)->encode("ab a"), (Ids{6, 8}));
  EXPECT_EQ((*made)->decode(Ids{6, 8}), "ab a");
  vocabulary.scores.pop_back();
  EXPECT_FALSE(from_gguf(vocabulary).ok());
}

TEST(TokenizerSmall, NothingToOpen) {
  auto made = Tokenizer::open(TokenizerSource{});
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().code, Code::kNotFound);
}

}  // namespace
}  // namespace sonde::test
