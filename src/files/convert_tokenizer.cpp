// tokenizer.ggml.* -> tokenizer.json and tokenizer_config.json
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "files/convert_parts.h"
#include "files/error.h"
#include "files/json.h"
#include "files/pretokenizers.h"

namespace sonde {
namespace {

using Json = nlohmann::json;

enum TokenType : int32_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

int32_t type_of(const GgufVocabulary& v, std::size_t i) { return i < v.types.size() ? v.types[i] : kNormal; }

bool is_added(const GgufVocabulary& v, std::size_t i) {
  return type_of(v, i) == kControl || type_of(v, i) == kUserDefined || type_of(v, i) == kUnknown;
}

// Tokens that fill the vocabulary up to the model's size; config.json's vocab_size says the same.
bool is_padding(const GgufVocabulary& v, std::size_t i) {
  return type_of(v, i) == kUnused && v.tokens[i] == fmt::format("[PAD{}]", i);
}

// Ids below this belong to the model's own vocabulary; those above are added tokens one after the other.
std::size_t own_tokens(const GgufVocabulary& v) {
  std::size_t end = v.tokens.size();
  while (end > 0 && is_padding(v, end - 1)) --end;
  std::size_t first = end;
  while (first > 0 && (type_of(v, first - 1) == kControl || type_of(v, first - 1) == kUserDefined)) --first;
  return first;
}

Result<Json> vocabulary_json(const GgufVocabulary& v, const std::string& where) {
  Json out = Json::object();
  const std::size_t own = own_tokens(v);
  std::unordered_map<std::string_view, std::size_t> seen;
  for (std::size_t i = 0; i < v.tokens.size(); ++i) {
    if (!is_utf8(v.tokens[i]))
      return file_error(Code::kUnsupported, where, "a token is not UTF-8", {}, fmt::format("number {}", i));
    if (is_padding(v, i)) continue;
    if (!seen.emplace(v.tokens[i], i).second)
      return file_error(Code::kUnsupported, where, "tokenizer.json cannot say two tokens of one text", {},
                        std::string(v.tokens[i]));
    if (i < own) out[std::string(v.tokens[i])] = i;
  }
  return out;
}

Json added_json(const GgufVocabulary& v) {
  Json out = Json::array();
  for (std::size_t i = 0; i < v.tokens.size(); ++i) {
    if (!is_added(v, i)) continue;
    out.push_back({{"id", i},
                   {"content", v.tokens[i]},
                   {"single_word", false},
                   {"lstrip", false},
                   {"rstrip", false},
                   {"normalized", false},
                   {"special", type_of(v, i) != kUserDefined}});
  }
  return out;
}

// Length in bytes of the character that starts with this byte; the text is UTF-8.
std::size_t character(unsigned char c) { return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4; }

// The merges that SentencePiece's scores stand for: every way to make a piece from two others, the best piece first.
Json merges_by_score(const GgufVocabulary& v) {
  std::unordered_map<std::string_view, std::size_t> ids;
  for (std::size_t i = 0; i < v.tokens.size(); ++i) {
    if (type_of(v, i) == kNormal) ids.emplace(v.tokens[i], i);
  }
  struct Merge {
    float score;
    std::size_t left, right;
  };
  std::vector<Merge> all;
  for (const auto& [text, id] : ids) {
    for (std::size_t cut = character(static_cast<unsigned char>(text[0])); cut < text.size();
         cut += character(static_cast<unsigned char>(text[cut]))) {
      const auto left = ids.find(text.substr(0, cut)), right = ids.find(text.substr(cut));
      if (left != ids.end() && right != ids.end())
        all.push_back({id < v.scores.size() ? v.scores[id] : 0.0f, left->second, right->second});
    }
  }
  std::sort(all.begin(), all.end(), [](const Merge& a, const Merge& b) {
    return a.score != b.score ? a.score > b.score : a.left != b.left ? a.left < b.left : a.right < b.right;
  });
  Json out = Json::array();
  for (const Merge& m : all) out.push_back({v.tokens[m.left], v.tokens[m.right]});
  return out;
}

// "left right"; the space that parts them is the only one.
Result<Json> merges_as_pairs(const GgufVocabulary& v, const std::string& where) {
  Json out = Json::array();
  for (const std::string_view merge : v.merges) {
    const auto space = merge.find(' ', 1);
    if (space == merge.npos || space + 1 >= merge.size() || !is_utf8(merge))
      return corrupt(where, "a merge is not two pieces", {}, to_utf8(merge));
    out.push_back({merge.substr(0, space), merge.substr(space + 1)});
  }
  return out;
}

Json bos_processor(const GgufVocabulary& v, int32_t bos) {
  const std::string text(v.tokens[static_cast<std::size_t>(bos)]);
  const Json special = {{"SpecialToken", {{"id", text}, {"type_id", 0}}}};
  const auto sequence = [](const char* id, int type) { return Json{{"Sequence", {{"id", id}, {"type_id", type}}}}; };
  return {{"type", "TemplateProcessing"},
          {"single", Json::array({special, sequence("A", 0)})},
          {"pair", Json::array({special, sequence("A", 0), special, sequence("B", 0)})},
          {"special_tokens", {{text, {{"id", text}, {"ids", {bos}}, {"tokens", {text}}}}}}};
}

Json replace(const char* from, const char* to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

void sentencepiece_steps(Json& out, const GgufVocabulary& v) {
  const bool bytes = std::find(v.types.begin(), v.types.end(), kByte) != v.types.end(),
             prefix = v.add_space_prefix.value_or(true);
  Json normalizers = Json::array(), decoders = Json::array({replace("▁", " ")});
  if (prefix) normalizers.push_back({{"type", "Prepend"}, {"prepend", "▁"}});
  normalizers.push_back(replace(" ", "▁"));
  if (bytes) decoders.push_back({{"type", "ByteFallback"}});
  decoders.push_back({{"type", "Fuse"}});
  if (prefix) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  out["normalizer"] = {{"type", "Sequence"}, {"normalizers", normalizers}};
  out["pre_tokenizer"] = Json();
  out["decoder"] = {{"type", "Sequence"}, {"decoders", decoders}};
  out["model"]["fuse_unk"] = true;
  out["model"]["byte_fallback"] = bytes;
  for (std::size_t i = 0; i < v.tokens.size(); ++i) {
    if (type_of(v, i) == kUnknown) out["model"]["unk_token"] = v.tokens[i];
  }
}

}  // namespace

Result<Json> tokenizer_json(const Checkpoint& c) {
  const GgufVocabulary& v = *c.tokenizer().gguf;
  const std::string where = fmt::format("{}: tokenizer.ggml", c.path());
  Json out = {
      {"version", "1.0"},      {"truncation", nullptr},    {"padding", nullptr},        {"added_tokens", added_json(v)},
      {"normalizer", nullptr}, {"pre_tokenizer", nullptr}, {"post_processor", nullptr}, {"decoder", nullptr}};
  SONDE_TRY(Json vocabulary, vocabulary_json(v, where));
  out["model"] = {{"type", "BPE"},
                  {"dropout", nullptr},
                  {"unk_token", nullptr},
                  {"continuing_subword_prefix", nullptr},
                  {"end_of_word_suffix", nullptr},
                  {"fuse_unk", false},
                  {"byte_fallback", false},
                  {"ignore_merges", false},
                  {"vocab", std::move(vocabulary)}};
  if (v.model == "gpt2") {
    SONDE_CHECK(set_pre_tokenizer(out, v.pre.empty() ? "default" : v.pre, where));
    if (v.no_normalizer) out["normalizer"] = nullptr;
    SONDE_TRY(out["model"]["merges"], merges_as_pairs(v, where));
    out["decoder"] = {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
  } else if (v.model == "llama") {
    sentencepiece_steps(out, v);
    out["model"]["merges"] = merges_by_score(v);
  } else {
    return file_error(Code::kUnsupported, where, "tokenizer.json has no form for this model", "gpt2 or llama", v.model);
  }
  const auto bos = v.ids.find("bos");
  const bool adds_bos = v.add_bos.value_or(v.model == "llama" || v.pre == "llama-bpe");
  if (adds_bos && bos != v.ids.end() && !v.no_post_processor) out["post_processor"] = bos_processor(v, bos->second);
  return out;
}

Result<Json> tokenizer_config_json(const Checkpoint& c) {
  const GgufVocabulary& v = *c.tokenizer().gguf;
  Json out = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}};
  for (const auto& [word, key] : {std::pair("bos", "bos_token"), std::pair("eos", "eos_token"),
                                  std::pair("pad", "pad_token"), std::pair("unk", "unk_token")}) {
    if (const auto id = v.ids.find(word); id != v.ids.end())
      out[key] = to_utf8(v.tokens[static_cast<std::size_t>(id->second)]);
  }
  out["add_bos_token"] = v.add_bos.value_or(v.model == "llama" || v.pre == "llama-bpe");
  out["add_eos_token"] = v.add_eos.value_or(false);
  if (const auto length = c.config().find("max_position_embeddings");
      c.config().is_object() && length != c.config().end())
    out["model_max_length"] = *length;
  if (!c.chat_template().empty()) out["chat_template"] = c.chat_template();
  return out;
}

}  // namespace sonde
