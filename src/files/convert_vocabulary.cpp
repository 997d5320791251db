// tokenizer.json -> tokenizer.ggml.*
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "files/convert_parts.h"
#include "files/error.h"
#include "files/gguf_config.h"
#include "files/json.h"
#include "files/pretokenizers.h"

namespace sonde {
namespace {

using Json = nlohmann::json;

enum TokenType : int32_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

const Json& at(const Json& object, const char* key) {
  static const Json none;
  const auto it = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && it != object.end() ? *it : none;
}

// "<s>" or {"content": "<s>", ...}
std::string token_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  return at(value, "content").is_string() ? at(value, "content").get<std::string>() : "";
}

bool is_byte(std::string_view text) {  // "<0x0A>"
  constexpr std::string_view kHex = "0123456789ABCDEF";
  return text.size() == 6 && text.starts_with("<0x") && text[5] == '>' && kHex.find(text[3]) != kHex.npos &&
         kHex.find(text[4]) != kHex.npos;
}

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  std::map<std::string, int32_t> ids;
};

Result<Vocabulary> read_vocabulary(const Json& tokenizer, int64_t size, const std::string& where) {
  Vocabulary out;
  const auto count = static_cast<std::size_t>(size);
  out.tokens.resize(count);
  out.types.assign(count, kUnused);
  const auto put = [&](const std::string& text, const Json& number, int32_t type) -> Status {
    const auto id = token_id(number);
    if (!id || *id >= size) {
      return corrupt(where, "a token lies outside the vocabulary", fmt::format("ids below {}", size),
                     fmt::format("{} for {}", number.dump(), text));
    }
    const auto i = static_cast<std::size_t>(*id);
    if (out.types[i] != kUnused && out.tokens[i] != text)
      return corrupt(where, "two tokens have one id", out.tokens[i], text);
    out.tokens[i] = text;
    out.types[i] = type;
    out.ids[text] = *id;
    return {};
  };
  const Json& vocabulary = at(at(tokenizer, "model"), "vocab");
  if (!vocabulary.is_object()) return file_error(Code::kUnsupported, where, "only BPE vocabularies can be converted");
  for (const auto& [text, id] : vocabulary.items()) SONDE_CHECK(put(text, id, kNormal));
  for (const Json& token : at(tokenizer, "added_tokens")) {
    SONDE_CHECK(put(token_text(token), at(token, "id"), at(token, "special") == Json(true) ? kControl : kUserDefined));
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (out.types[i] == kUnused) out.tokens[i] = fmt::format("[PAD{}]", i);
  }
  return out;
}

// "left right"; a pair may come as a list.
Result<std::vector<std::string>> read_merges(const Json& tokenizer, const std::string& where) {
  std::vector<std::string> out;
  for (const Json& merge : at(at(tokenizer, "model"), "merges")) {
    if (merge.is_string())
      out.push_back(merge.get<std::string>());
    else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      const std::string left = merge[0].get<std::string>(), right = merge[1].get<std::string>();
      if (left.find(' ') != left.npos || right.find(' ') != right.npos)
        return file_error(Code::kUnsupported, where, "GGUF cannot say a merge with a space in it", {}, merge.dump());
      out.push_back(fmt::format("{} {}", left, right));
    } else {
      return corrupt(where, "a merge is neither a text nor a pair", {}, merge.dump());
    }
  }
  return out;
}

bool mentions(const Json& value, const char* type, int depth = 0) {
  if (depth > kMaxJsonDepth) return false;
  if (value.is_object() && at(value, "type") == Json(type)) return true;
  return value.is_structured() &&
         std::any_of(value.begin(), value.end(), [&](const Json& v) { return mentions(v, type, depth + 1); });
}

// SentencePiece merges the neighbours whose union scores highest, so the earlier a merge stands the higher its result
// scores.
std::vector<float> scores_of(const Vocabulary& v, const std::vector<std::string>& merges) {
  std::vector<float> scores(v.tokens.size(), 0.0f);
  std::vector<bool> seen(v.tokens.size());
  float rank = 0;
  for (const std::string& merge : merges) {
    const auto space = merge.find(' ');
    const auto result = v.ids.find(merge.substr(0, space) + merge.substr(space + 1));
    if (result == v.ids.end() || seen[static_cast<std::size_t>(result->second)]) continue;
    seen[static_cast<std::size_t>(result->second)] = true;
    scores[static_cast<std::size_t>(result->second)] = -rank;
    rank += 1;
  }
  // Pieces that no merge makes (letters) stand below all that one makes.
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (!seen[i] && v.types[i] == kNormal) scores[i] = -rank, rank += 1;
  }
  return scores;
}

// Does a rendered text begin with BOS when nothing else is said?
bool template_adds_bos(const Json& processor, const std::string& bos, int depth = 0) {
  if (depth > 8) return false;
  const Json& single = at(processor, "single");
  if (single.is_array() && !single.empty() && at(at(single[0], "SpecialToken"), "id") == Json(bos)) return true;
  const Json& inner = at(processor, "processors");
  return inner.is_array() &&
         std::any_of(inner.begin(), inner.end(), [&](const Json& p) { return template_adds_bos(p, bos, depth + 1); });
}

// end_tokens() into eos, eot, eom: GGUF has words for three.
Status end_keys(const Checkpoint& c, std::optional<int32_t> eos, GgufWriter& writer) {
  std::vector<int32_t> ends = c.end_tokens();
  if (const auto first = eos ? std::find(ends.begin(), ends.end(), *eos) : ends.end(); first != ends.end())
    std::rotate(ends.begin(), first, first + 1);
  else if (ends.empty() && eos)
    ends.push_back(*eos);
  constexpr const char* kKeys[] = {"eos", "eot", "eom"};
  if (ends.size() > std::size(kKeys))
    return file_error(Code::kUnsupported, c.path(), "GGUF has words for three end tokens", {},
                      fmt::format("{}", ends.size()));
  for (std::size_t i = 0; i < ends.size(); ++i)
    writer.set_u32(fmt::format("tokenizer.ggml.{}_token_id", kKeys[i]), static_cast<uint32_t>(ends[i]));
  return {};
}

}  // namespace

Status add_vocabulary(const Checkpoint& c, int64_t vocab_size, GgufWriter& writer) {
  const auto bos_key = [&](int32_t id) { writer.set_u32("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(id)); };
  if (c.tokenizer().tokenizer_json.empty()) {
    writer.set_text("tokenizer.ggml.model", "none");
    if (c.bos_token()) bos_key(*c.bos_token());
    return end_keys(c, std::nullopt, writer);
  }
  const std::string where = fmt::format("{}: tokenizer.json", c.path());
  SONDE_TRY(const Json tokenizer, parse_json(c.tokenizer().tokenizer_json, where));
  if (vocab_size > (int64_t{1} << 24))
    return file_error(Code::kTooLarge, where, "the vocabulary is too large", {}, fmt::format("{}", vocab_size));
  Json config = Json::object();
  if (!c.tokenizer().tokenizer_config.empty()) {
    SONDE_TRY(config, parse_json(c.tokenizer().tokenizer_config, c.path()));
  }
  SONDE_TRY(Vocabulary v, read_vocabulary(tokenizer, vocab_size, where));
  SONDE_TRY(const auto merges, read_merges(tokenizer, where));
  const auto id_of = [&](const char* key) -> std::optional<int32_t> {
    const auto it = v.ids.find(token_text(at(config, key)));
    return it == v.ids.end() ? std::nullopt : std::optional(it->second);
  };
  std::optional<int32_t> bos = id_of("bos_token");
  if (!bos) bos = c.bos_token();
  const std::string bos_text = bos && *bos < vocab_size ? v.tokens[static_cast<std::size_t>(*bos)] : "";
  const Json& model = at(tokenizer, "model");

  if (mentions(at(tokenizer, "pre_tokenizer"), "ByteLevel")) {
    const bool distilled = bos_text == "<｜begin▁of▁sentence｜>" && at(c.config(), "model_type") == Json("qwen2");
    SONDE_TRY(const std::string pre, pre_tokenizer_name(tokenizer, distilled, where));
    writer.set_text("tokenizer.ggml.model", "gpt2");
    writer.set_text("tokenizer.ggml.pre", pre);
    if (at(tokenizer, "normalizer").is_null() && stands_for_nfc(pre)) writer.set_text(kNormalizerKey, "none");
    writer.set_texts("tokenizer.ggml.tokens", v.tokens);
    writer.set_i32s("tokenizer.ggml.token_type", v.types);
    writer.set_texts("tokenizer.ggml.merges", merges);
  } else if (mentions(at(tokenizer, "normalizer"), "Replace") ||
             mentions(at(tokenizer, "pre_tokenizer"), "Metaspace")) {
    const std::string unknown = token_text(at(model, "unk_token"));
    for (std::size_t i = 0; i < v.tokens.size(); ++i) {
      if (is_byte(v.tokens[i]) && at(model, "byte_fallback") == Json(true)) v.types[i] = kByte;
      if (!unknown.empty() && v.tokens[i] == unknown) v.types[i] = kUnknown;
    }
    writer.set_text("tokenizer.ggml.model", "llama");
    writer.set_text("tokenizer.ggml.pre", "default");
    writer.set_texts("tokenizer.ggml.tokens", v.tokens);
    writer.set_f32s("tokenizer.ggml.scores", scores_of(v, merges));
    writer.set_i32s("tokenizer.ggml.token_type", v.types);
    const Json& scheme = at(at(tokenizer, "pre_tokenizer"), "prepend_scheme");
    writer.set_bool("tokenizer.ggml.add_space_prefix",
                    mentions(at(tokenizer, "normalizer"), "Prepend") || (scheme.is_string() && scheme != "never"));
    if (const auto id = v.ids.find(unknown); !unknown.empty() && id != v.ids.end())
      writer.set_u32("tokenizer.ggml.unknown_token_id", static_cast<uint32_t>(id->second));
  } else {
    return file_error(Code::kUnsupported, where, "GGUF has no word for this kind of tokenizer");
  }
  if (bos) bos_key(*bos);
  SONDE_CHECK(end_keys(c, id_of("eos_token"), writer));
  if (const auto pad = id_of("pad_token"))
    writer.set_u32("tokenizer.ggml.padding_token_id", static_cast<uint32_t>(*pad));
  const bool processor_adds = template_adds_bos(at(tokenizer, "post_processor"), bos_text);
  writer.set_bool("tokenizer.ggml.add_bos_token", c.add_bos().value_or(processor_adds));
  if (c.add_bos() == true && !processor_adds) writer.set_text(kPostProcessorKey, "none");
  if (at(config, "add_eos_token").is_boolean())
    writer.set_bool("tokenizer.ggml.add_eos_token", at(config, "add_eos_token").get<bool>());
  if (!c.chat_template().empty()) writer.set_text("tokenizer.chat_template", c.chat_template());
  return {};
}

}  // namespace sonde
