#include "files/synth_vocabulary.h"

#include <fmt/format.h>

#include <array>

namespace sonde {
namespace {

enum TokenType { kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5 };

struct Named {
  int32_t id;
  std::string_view text;
  TokenType type = kControl;
};

struct Layout {
  std::string_view shape, pre;
  int32_t first, end;  // ids [first, end) are byte-level BPE pieces
  std::span<const Named> named;
  std::string_view filler;  // what other ids outside are called; {} is the id less `end`; empty: "[PAD id]", unused
  int32_t bos, eos, pad;
  bool add_bos;
  std::string_view chat_template;
};

#define BOS "<｜begin▁of▁sentence｜>"
#define EOS "<｜end▁of▁sentence｜>"
constexpr std::array<std::string_view, 9> kToolTokens = {
    "<｜tool▁calls▁begin｜>",  "<｜tool▁calls▁end｜>",     "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",     "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>",
    "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>",    "<｜tool▁sep｜>"};
constexpr Named kV2[] = {{100000, BOS},
                         {100001, EOS},
                         {100002, "<｜fim▁hole｜>", kUserDefined},
                         {100003, "<｜fim▁begin｜>", kUserDefined},
                         {100004, "<｜fim▁end｜>", kUserDefined},
                         {100005, "<｜completion｜>", kUserDefined},
                         {100006, "<｜User｜>", kUserDefined},
                         {100007, "<｜Assistant｜>", kUserDefined},
                         {100008, "<|EOT|>"},
                         {100009, kToolTokens[0], kUserDefined},
                         {100010, kToolTokens[1], kUserDefined},
                         {100011, kToolTokens[2], kUserDefined},
                         {100012, kToolTokens[3], kUserDefined},
                         {100013, kToolTokens[4], kUserDefined},
                         {100014, kToolTokens[5], kUserDefined},
                         {100015, kToolTokens[6], kUserDefined},
                         {100016, kToolTokens[7], kUserDefined},
                         {100017, kToolTokens[8], kUserDefined}};
constexpr Named kV3[] = {{0, BOS},
                         {1, EOS},
                         {2, "<｜▁pad▁｜>"},
                         {128800, "<｜fim▁hole｜>", kUserDefined},
                         {128801, "<｜fim▁begin｜>", kUserDefined},
                         {128802, "<｜fim▁end｜>", kUserDefined},
                         {128803, "<｜User｜>", kUserDefined},
                         {128804, "<｜Assistant｜>", kUserDefined},
                         {128805, "<|EOT|>"},
                         {128806, kToolTokens[0], kUserDefined},
                         {128807, kToolTokens[1], kUserDefined},
                         {128808, kToolTokens[2], kUserDefined},
                         {128809, kToolTokens[3], kUserDefined},
                         {128810, kToolTokens[4], kUserDefined},
                         {128811, kToolTokens[5], kUserDefined},
                         {128812, kToolTokens[6], kUserDefined},
                         {128813, kToolTokens[7], kUserDefined},
                         {128814, kToolTokens[8], kUserDefined}};
constexpr Named kMini[] = {{0, BOS},
                           {1, EOS},
                           {2, "<｜▁pad▁｜>"},
                           {1020, "<｜User｜>"},
                           {1021, "<｜Assistant｜>"},
                           {1022, "<think>", kUserDefined},
                           {1023, "</think>", kUserDefined}};
constexpr Named kQwen[] = {
    {151643, EOS},       {151644, "<｜User｜>", kUserDefined}, {151645, "<｜Assistant｜>", kUserDefined}, {151646, BOS},
    {151647, "<|EOT|>"}, {151648, "<think>", kUserDefined},    {151649, "</think>", kUserDefined}};
constexpr Named kLlama[] = {{128000, BOS},
                            {128001, EOS},
                            {128011, "<｜User｜>", kUserDefined},
                            {128012, "<｜Assistant｜>", kUserDefined},
                            {128013, "<think>", kUserDefined},
                            {128014, "</think>", kUserDefined}};
constexpr Named kSmol[] = {{0, "<|endoftext|>"},     {1, "<|im_start|>"},    {2, "<|im_end|>"},
                           {3, "<repo_name>"},       {4, "<reponame>"},      {5, "<file_sep>"},
                           {6, "<filename>"},        {7, "<gh_stars>"},      {8, "<issue_start>"},
                           {9, "<issue_comment>"},   {10, "<issue_closed>"}, {11, "<jupyter_start>"},
                           {12, "<jupyter_text>"},   {13, "<jupyter_code>"}, {14, "<jupyter_output>"},
                           {15, "<jupyter_script>"}, {16, "<empty_output>"}};

constexpr std::string_view kV2Template =
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + "
    "'\n\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}"
    "{% else %}{{ message['content'] + '\n\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' "
    "}}{% endif %}";
constexpr std::string_view kV3Template =
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '<｜User｜>' + "
    "message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ '<｜Assistant｜>' + message['content'] + eos_token }}"
    "{% else %}{{ message['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% "
    "endif %}";
constexpr std::string_view kR1Template =
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '<｜User｜>' + "
    "message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ '<｜Assistant｜>' + message['content'].split('</think>')[-1] + "
    "eos_token }}"
    "{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}";
constexpr std::string_view kChatMl =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

constexpr Layout kLayouts[] = {
    {"v2-lite", "deepseek-llm", 0, 100000, kV2, "", 100000, 100001, 100001, true, kV2Template},
    {"v2", "deepseek-llm", 0, 100000, kV2, "", 100000, 100001, 100001, true, kV2Template},
    {"v3", "deepseek-v3", 3, 128000, kV3, "<｜place▁holder▁no▁{}｜>", 0, 1, 2, true, kV3Template},
    {"r1-distill-qwen-1.5b", "deepseek-r1-qwen", 0, 151643, kQwen, "", 151646, 151643, 151643, true, kR1Template},
    {"r1-distill-qwen-7b", "deepseek-r1-qwen", 0, 151643, kQwen, "", 151646, 151643, 151643, true, kR1Template},
    {"r1-distill-llama-8b", "llama-bpe", 0, 128000, kLlama, "<|reserved_special_token_{}|>", 128000, 128001, 128001,
     true, kR1Template},
    {"smollm2-135m", "smollm", 17, 49152, kSmol, "", 1, 2, 2, false, kChatMl},
    {"mini", "qwen2", 3, 1020, kMini, "", 0, 1, 2, true, kR1Template},
};
#undef BOS
#undef EOS

// GPT-2's letters for the 256 bytes, in the order of the letters: printable Latin-1 stands for itself, the others are
// U+0100 and on.
std::vector<std::string> byte_letters() {
  const auto utf8 = [](uint32_t c) {
    return c < 0x80 ? std::string(1, char(c)) : std::string{char(0xC0 | c >> 6), char(0x80 | (c & 63))};
  };
  std::vector<std::string> letters;
  for (uint32_t c = 0x21; c <= 0xFF; ++c) {
    if (c <= 0x7E || (c >= 0xA1 && c != 0xAD)) letters.push_back(utf8(c));
  }
  for (uint32_t c = 0x100; letters.size() < 256; ++c) letters.push_back(utf8(c));
  return letters;
}

// Pieces of two and three letters, and the merges that make them: space and letters, small ones first.
struct Pieces {
  std::vector<std::string> texts, merges;

  void add(const std::string& left, const std::string& right, std::size_t limit) {
    if (texts.size() >= limit) return;
    texts.push_back(left + right);
    merges.push_back(fmt::format("{} {}", left, right));
  }
};
Pieces make_pieces(std::size_t count) {
  std::vector<std::string> letters = {"\xC4\xA0"};  // U+0120: the space
  for (char c = 'a'; c <= 'z'; ++c) letters.emplace_back(1, c);
  for (char c = 'A'; c <= 'Z'; ++c) letters.emplace_back(1, c);
  Pieces pieces;
  for (const auto& a : letters) {
    for (const auto& b : letters) pieces.add(a, b, count);
  }
  const std::size_t n = letters.size();
  for (std::size_t top = 0; top < n; ++top) {  // triples whose rarest letter is letters[top]
    for (std::size_t i = 0; i <= top; ++i) {
      for (std::size_t j = 0; j <= top; ++j) {
        for (std::size_t k = i == top || j == top ? 0 : top; k <= top; ++k) {
          pieces.add(letters[i] + letters[j], letters[k], count);
        }
      }
    }
  }
  return pieces;
}

}  // namespace

void set_vocabulary_keys(const SynthShape& shape, GgufWriter& out) {
  const Layout* layout = &kLayouts[0];
  for (const Layout& l : kLayouts) {
    if (l.shape == shape.name) layout = &l;
  }
  std::vector<std::string> tokens(static_cast<std::size_t>(shape.vocabulary));
  std::vector<int32_t> types(tokens.size(), kNormal);
  std::size_t at = static_cast<std::size_t>(layout->first);
  for (std::string& letter : byte_letters()) tokens[at++] = std::move(letter);
  Pieces pieces = make_pieces(static_cast<std::size_t>(layout->end) - at);
  for (std::string& text : pieces.texts) tokens[at++] = std::move(text);
  for (const Named& named : layout->named) {
    tokens[static_cast<std::size_t>(named.id)] = named.text;
    types[static_cast<std::size_t>(named.id)] = named.type;
  }
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (!tokens[id].empty()) continue;
    // DeepSeek-V3's placeholders end at 128799, below the first named token.
    const bool reserved = !layout->filler.empty() && (layout->shape != "v3" || id < 128800);
    const int64_t number = static_cast<int64_t>(id) - layout->end;
    tokens[id] = reserved ? fmt::format(fmt::runtime(layout->filler), number) : fmt::format("[PAD{}]", id);
    types[id] = reserved ? kControl : kUnused;
  }
  out.set_text("tokenizer.ggml.model", "gpt2");
  out.set_text("tokenizer.ggml.pre", layout->pre);
  out.set_texts("tokenizer.ggml.tokens", tokens);
  out.set_i32s("tokenizer.ggml.token_type", types);
  out.set_texts("tokenizer.ggml.merges", pieces.merges);
  out.set_u32("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(layout->bos));
  out.set_u32("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(layout->eos));
  out.set_u32("tokenizer.ggml.padding_token_id", static_cast<uint32_t>(layout->pad));
  out.set_bool("tokenizer.ggml.add_bos_token", layout->add_bos);
  out.set_text("tokenizer.chat_template", layout->chat_template);
}

}  // namespace sonde
