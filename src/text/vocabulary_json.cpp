// tokenizer.json: the vocabulary and merges are read as they stream by, all the rest becomes a small tree.
#include <fmt/format.h>
#include <rapidjson/error/en.h>
#include <rapidjson/reader.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "text/unicode.h"
#include "text/vocabulary.h"

namespace sonde {
namespace {

using nlohmann::json;

constexpr size_t kMaxDepth = 64;
constexpr int64_t kFewIds = 1 << 20;  // ids below this are fine even in a small file

struct Parsed {
  std::string buffer;  // strings point into it
  json tree;           // without model.vocab and model.merges
  std::vector<std::pair<std::string_view, int64_t>> vocab;
  std::vector<std::pair<std::string_view, std::string_view>> merges;  // second is empty: "left right" in the first
};

class Handler {
 public:
  explicit Handler(Parsed& parsed) : parsed_(parsed) {}
  std::string problem;  // why parsing was stopped

  bool Null() { return value(nullptr); }
  bool Bool(bool b) { return value(b); }
  bool Int(int i) { return number(i); }
  bool Uint(unsigned i) { return number(i); }
  bool Int64(int64_t i) { return number(i); }
  bool Uint64(uint64_t i) { return i <= INT64_MAX ? number(static_cast<int64_t>(i)) : value(i); }
  bool Double(double d) { return value(d); }
  bool RawNumber(const char*, rapidjson::SizeType, bool) { return stop("number"); }
  bool String(const char* text, rapidjson::SizeType length, bool) {
    std::string_view view(text, length);
    if (part_ == kMerges) {
      if (!in_pair_) return parsed_.merges.emplace_back(view, std::string_view()), true;
      if (pair_ == 2) return stop("a merge has more than two parts");
      (pair_++ == 0 ? parsed_.merges.back().first : parsed_.merges.back().second) = view;
      return !view.empty() || stop("a merge has an empty part");
    }
    return value(std::string(view));
  }
  bool Key(const char* text, rapidjson::SizeType length, bool) {
    key_.assign(text, length);
    if (part_ == kVocab) form_ = std::string_view(text, length);
    if (stack_.size() == 1) root_key_ = key_;
    return true;
  }
  bool StartObject() {
    if (part_ != kTree) return stop("an object inside the vocabulary or the merges");
    if (in_model() && key_ == "vocab") return part_ = kVocab, true;
    return open(json::object());
  }
  bool EndObject(rapidjson::SizeType) { return part_ == kVocab ? (part_ = kTree, true) : close(); }
  bool StartArray() {
    if (part_ == kMerges && !in_pair_) {
      in_pair_ = true, pair_ = 0;
      parsed_.merges.emplace_back();
      return true;
    }
    if (part_ != kTree) return stop("an array inside the vocabulary or a merge");
    if (in_model() && key_ == "merges") return part_ = kMerges, true;
    return open(json::array());
  }
  bool EndArray(rapidjson::SizeType) {
    if (part_ == kMerges && in_pair_) {
      in_pair_ = false;
      return pair_ == 2 || stop("a merge has fewer than two parts");
    }
    return part_ == kMerges ? (part_ = kTree, true) : close();
  }

 private:
  enum Part { kTree, kVocab, kMerges };
  bool in_model() const { return stack_.size() == 2 && root_key_ == "model"; }
  bool stop(const char* why) { return problem = why, false; }
  bool number(int64_t i) {
    if (part_ == kVocab) return parsed_.vocab.emplace_back(form_, i), true;
    return value(i);
  }
  bool value(json v) {
    if (part_ != kTree) return stop("a value of the wrong kind inside the vocabulary or the merges");
    put(std::move(v));
    return true;
  }
  json* put(json v) {
    if (stack_.empty()) return &(parsed_.tree = std::move(v));
    json& parent = *stack_.back();
    if (parent.is_array()) return parent.push_back(std::move(v)), &parent.back();
    return &(parent[key_] = std::move(v));
  }
  bool open(json container) {
    if (stack_.size() == kMaxDepth) return stop("nested too deeply");
    stack_.push_back(put(std::move(container)));
    return true;
  }
  bool close() { return stack_.pop_back(), true; }

  Parsed& parsed_;
  std::vector<json*> stack_;
  std::string key_, root_key_;
  std::string_view form_;
  Part part_ = kTree;
  bool in_pair_ = false;
  int pair_ = 0;
};

Error bad(std::string what, std::string found = "", Code code = Code::kCorrupt) {
  return Error{code, std::move(what), "tokenizer.json", "", std::move(found), ""};
}

Result<Parsed> parse(std::string_view text) {
  // The reader's own check runs past the end of a sequence that the end of the text cuts.
  if (!valid_utf8(text)) return bad("not UTF-8");
  Parsed parsed;
  parsed.buffer.assign(text);
  size_t guess = text.size() / 48;  // bytes of an entry and its merge, roughly
  parsed.vocab.reserve(guess);
  parsed.merges.reserve(guess);
  Handler handler(parsed);
  rapidjson::Reader reader;
  rapidjson::InsituStringStream stream(parsed.buffer.data());
  constexpr unsigned kFlags =
      rapidjson::kParseInsituFlag | rapidjson::kParseIterativeFlag | rapidjson::kParseFullPrecisionFlag;
  auto result = reader.Parse<kFlags>(stream, handler);
  if (result.IsError()) {
    std::string why = handler.problem.empty() ? rapidjson::GetParseError_En(result.Code()) : handler.problem;
    return bad(fmt::format("not a tokenizer: {}, at byte {}", why, result.Offset()));
  }
  // The reader stops at a NUL; the file must end there too.
  if (result.Offset() < text.size() && text.find('\0') != text.npos) return bad("a NUL byte in the file");
  if (!parsed.tree.is_object() || !parsed.tree.contains("model") || !parsed.tree["model"].is_object()) {
    return bad("no object \"model\"");
  }
  return parsed;
}

// Typed looks into the small tree; what is absent or null is the default.
std::string text_of(const json& object, const char* key) {
  auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}
bool flag_of(const json& object, const char* key, bool fallback = false) {
  auto it = object.find(key);
  return it != object.end() && it->is_boolean() ? it->get<bool>() : fallback;
}
const json& child_of(const json& object, const char* key) {
  static const json null;
  auto it = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && it != object.end() ? *it : null;
}
std::string type_of(const json& object) { return object.is_object() ? text_of(object, "type") : ""; }

// Calls `use` for an entry or, for a Sequence, for each of its entries (`list` names the array).
template <class Use>
Status each(const json& entry, const char* list, const Use& use, int depth = 0) {
  if (entry.is_null()) return {};
  if (type_of(entry) != "Sequence") return use(entry);
  if (depth > 8) return bad("sequences nested too deeply");
  const json& entries = child_of(entry, list);
  if (!entries.is_array()) return bad(fmt::format("a Sequence without \"{}\"", list));
  for (const json& inner : entries) SONDE_CHECK(each(inner, list, use, depth + 1));
  return {};
}

Status unsupported(const std::string& what, const std::string& found) {
  return bad(what + " is not supported", found, Code::kUnsupported);
}

Status read_normalizer(const json& entry, Vocabulary& out) {
  return each(entry, "normalizers", [&](const json& step) -> Status {
    std::string type = type_of(step);
    if (type == "NFC") {
      out.normal.push_back({NormalStep::kNfc, "", ""});
    } else if (type == "Prepend") {
      out.normal.push_back({NormalStep::kPrepend, "", text_of(step, "prepend")});
    } else if (type == "Replace") {
      std::string from = text_of(child_of(step, "pattern"), "String");
      if (from.empty()) return unsupported("a Replace normalizer without a plain text", step.dump());
      out.normal.push_back({NormalStep::kReplace, from, text_of(step, "content")});
    } else {
      return unsupported("this normalizer", type);
    }
    return {};
  });
}

std::string literal_pattern(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (static_cast<uint8_t>(c) < 0x80 && !std::isalnum(static_cast<unsigned char>(c))) out.push_back('\\');
    out.push_back(c);
  }
  return out;
}

Status read_pre_tokenizer(const json& entry, Vocabulary& out) {
  out.byte_level = false;
  bool first = true;
  return each(entry, "pretokenizers", [&](const json& step) -> Status {
    std::string type = type_of(step);
    if (out.byte_level) return unsupported("a pre-tokenizer behind ByteLevel", type);
    if (type == "Split") {
      std::string behavior = text_of(step, "behavior");
      if (behavior != "Isolated") return unsupported("this behavior of a Split", behavior);
      if (flag_of(step, "invert")) return unsupported("an inverted Split", "");
      const json& pattern = child_of(step, "pattern");
      std::string regex = text_of(pattern, "Regex"), plain = text_of(pattern, "String");
      if (regex.empty() && plain.empty()) return unsupported("a Split without a pattern", step.dump());
      out.splits.push_back(regex.empty() ? literal_pattern(plain) : regex);
    } else if (type == "Digits") {
      out.splits.push_back(flag_of(step, "individual_digits") ? R"(\p{N})" : R"(\p{N}+)");
    } else if (type == "ByteLevel") {
      out.byte_level = true;
      if (flag_of(step, "add_prefix_space", true)) {
        if (!first) return unsupported("add_prefix_space of a ByteLevel that is not the first step", "");
        out.normal.push_back({NormalStep::kPrefixSpace, "", ""});
      }
      if (flag_of(step, "use_regex", true)) out.splits.emplace_back(kGpt2Split);
    } else {
      return unsupported("this pre-tokenizer", type);
    }
    first = false;
    return {};
  });
}

struct Decoding {
  std::vector<std::pair<std::string, std::string>> replace;
  bool byte_fallback = false;
};

Result<Decoding> read_decoder(const json& entry) {
  Decoding out;
  SONDE_CHECK(each(entry, "decoders", [&](const json& step) -> Status {
    std::string type = type_of(step);
    if (type == "Replace") {
      std::string from = text_of(child_of(step, "pattern"), "String");
      if (from.empty()) return unsupported("a Replace decoder without a plain text", step.dump());
      out.replace.emplace_back(from, text_of(step, "content"));
    } else if (type == "ByteFallback") {
      out.byte_fallback = true;
    } else if (type != "ByteLevel" && type != "Fuse" && type != "Strip") {  // Strip: the first space of a whole text
      return unsupported("this decoder", type);
    }
    return {};
  }));
  return out;
}

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != text.npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

Result<AddedToken> read_added(const json& entry, int64_t id, int64_t ids) {
  if (!entry.is_object() || !child_of(entry, "content").is_string()) return bad("an added token without content");
  AddedToken token;
  token.content = text_of(entry, "content");
  if (token.content.size() > kMaxAddedToken)
    return bad("an added token is too long", fmt::format("{} bytes", token.content.size()));
  if (id < 0 || id >= ids) return bad("the id of an added token is out of range", fmt::format("{}", id));
  token.id = static_cast<int32_t>(id);
  token.special = flag_of(entry, "special");
  token.single_word = flag_of(entry, "single_word");
  token.lstrip = flag_of(entry, "lstrip");
  token.rstrip = flag_of(entry, "rstrip");
  token.normalized = flag_of(entry, "normalized", !token.special);
  return token;
}

Result<std::vector<AddedToken>> read_added_tokens(const json& tree, const json& config, int64_t ids) {
  std::vector<AddedToken> out;
  const json& list = child_of(tree, "added_tokens");
  if (!list.is_null() && !list.is_array()) return bad("\"added_tokens\" is not an array");
  for (const json& entry : list) {
    const json& id = child_of(entry, "id");
    if (!id.is_number_integer()) return bad("an added token without an id");
    SONDE_TRY(AddedToken token, read_added(entry, id.get<int64_t>(), ids));
    out.push_back(std::move(token));
  }
  // tokenizer_config.json may add more; it never overrides.
  const json& more = child_of(config, "added_tokens_decoder");
  if (!more.is_object()) return out;
  std::vector<int32_t> known;
  for (const AddedToken& token : out) known.push_back(token.id);
  std::sort(known.begin(), known.end());
  for (const auto& [key, entry] : more.items()) {
    bool digits = !key.empty() && key.size() < 11 && key.find_first_not_of("0123456789") == key.npos;
    if (!digits) return bad("a key of added_tokens_decoder is not an id", key.substr(0, 64));
    SONDE_TRY(AddedToken token, read_added(entry, std::stoll(key), ids));
    if (!std::binary_search(known.begin(), known.end(), token.id)) out.push_back(std::move(token));
  }
  return out;
}

// "bos_token": a text, or an object with "content".
std::optional<int32_t> named_token(const json& config, const char* key, const Vocabulary& vocabulary) {
  const json& entry = child_of(config, key);
  std::string name = entry.is_string() ? entry.get<std::string>() : entry.is_object() ? text_of(entry, "content") : "";
  if (name.empty()) return std::nullopt;
  for (const AddedToken& token : vocabulary.added) {
    if (token.content == name) return token.id;
  }
  return vocabulary.lookup().find(name);
}

// The post-processor's template for one text starts with a special token: its id.
std::optional<int32_t> template_bos(const json& tree) {
  std::optional<int32_t> id;
  (void)each(child_of(tree, "post_processor"), "processors", [&](const json& step) -> Status {
    const json& single = child_of(step, "single");
    if (type_of(step) != "TemplateProcessing" || !single.is_array() || single.empty()) return {};
    std::string name = text_of(child_of(single[0], "SpecialToken"), "id");
    const json& ids = child_of(child_of(child_of(step, "special_tokens"), name.c_str()), "ids");
    if (ids.is_array() && ids.size() == 1 && ids[0].is_number_integer()) id = ids[0].get<int32_t>();
    return {};
  });
  return id;
}

Status fill_pieces(Parsed& parsed, const std::vector<AddedToken>& added, const Decoding& decoding, Vocabulary& out) {
  std::vector<int32_t> hidden;  // control tokens: no text becomes one of them
  for (const AddedToken& token : added) {
    if (looks_like_control(token)) hidden.push_back(token.id);
  }
  std::sort(hidden.begin(), hidden.end());
  size_t bytes = 0;
  for (const auto& [form, id] : parsed.vocab) bytes += form.size();
  out.pieces.reserve(parsed.vocab.size() + added.size(), bytes + 64 * added.size());
  if (!out.byte_level) out.forms.reserve(parsed.vocab.size(), bytes);
  std::string piece;
  for (const auto& [form, wide] : parsed.vocab) {
    auto id = static_cast<int32_t>(wide);
    piece.clear();
    if (out.byte_level) {
      if (!append_mapped_bytes(form, piece)) piece.assign(form);
    } else {
      piece.assign(form);
      auto byte = decoding.byte_fallback ? byte_piece(form) : std::nullopt;
      if (byte) piece.assign(1, static_cast<char>(*byte));
      for (const auto& [from, to] : decoding.replace) {
        if (!byte) replace_all(piece, from, to);
      }
      out.forms.set(id, form);
    }
    out.pieces.set(id, piece);
    if (std::binary_search(hidden.begin(), hidden.end(), id)) continue;
    out.byte_level ? out.pieces.index(id) : out.forms.index(id);
  }
  return {};
}

}  // namespace

Result<Vocabulary> vocabulary_from_json(std::string_view tokenizer_json, const std::string& tokenizer_config) {
  constexpr size_t kMaxFile = 1u << 31;
  if (tokenizer_json.size() >= kMaxFile)
    return bad("the file is too large", fmt::format("{} bytes", tokenizer_json.size()), Code::kTooLarge);
  SONDE_TRY(Parsed parsed, parse(tokenizer_json));
  json config = json::parse(tokenizer_config, nullptr, false);
  const json& model = parsed.tree["model"];
  std::string type = text_of(model, "type");
  if (type != "BPE" && !type.empty()) return unsupported("this kind of tokenizer", type).error();
  if (parsed.vocab.empty()) return bad("no vocabulary");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!text_of(model, key).empty()) return unsupported(key, text_of(model, key)).error();
  }
  // No id needs a table larger than the file.
  const int64_t ids = std::max<int64_t>(kFewIds, static_cast<int64_t>(tokenizer_json.size()));
  for (const auto& [form, id] : parsed.vocab) {
    if (id < 0 || id >= ids) return bad("the id of a piece is out of range", fmt::format("{}", id));
  }

  Vocabulary out;
  out.where = "tokenizer.json";
  SONDE_CHECK(read_normalizer(child_of(parsed.tree, "normalizer"), out));
  SONDE_CHECK(read_pre_tokenizer(child_of(parsed.tree, "pre_tokenizer"), out));
  SONDE_TRY(Decoding decoding, read_decoder(child_of(parsed.tree, "decoder")));
  SONDE_TRY(std::vector<AddedToken> added, read_added_tokens(parsed.tree, config, ids));
  out.ignore_merges = flag_of(model, "ignore_merges");
  out.byte_fallback = flag_of(model, "byte_fallback");
  out.fuse_unk = flag_of(model, "fuse_unk");
  SONDE_CHECK(fill_pieces(parsed, added, decoding, out));

  out.merges.reserve(parsed.merges.size());
  std::string buffer;
  uint32_t rank = 0;
  for (auto [left, right] : parsed.merges) {
    if (right.empty()) {
      std::string_view whole = left;
      if (!split_merge(whole, left, right))
        return bad(fmt::format("merge {} is not two pieces", rank), std::string(whole.substr(0, 64)));
    }
    SONDE_CHECK(set_merge(out, left, right, rank++, buffer));
  }

  std::string unk = text_of(model, "unk_token");
  for (AddedToken& token : added) {
    if (!unk.empty() && token.content == unk) out.unk = token.id;
    out.set_added(std::move(token));
  }
  if (!unk.empty() && !out.unk) out.unk = out.lookup().find(unk);
  out.bos = named_token(config, "bos_token", out);
  out.eos = named_token(config, "eos_token", out);
  auto first = template_bos(parsed.tree);
  if (!out.bos && first && *first >= 0 && *first < out.pieces.size()) out.bos = first;
  out.adds_bos = flag_of(config, "add_bos_token", first.has_value()) && out.bos;
  return out;
}

}  // namespace sonde
