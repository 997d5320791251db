// Vocabularies of GGUF files. They name their pre-tokenizer; what the name stands for is written here.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "text/unicode.h"
#include "text/vocabulary.h"

namespace sonde {
namespace {

enum TokenType { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

// Cased letters as DeepSeek-LLM's published tokenizer.json lists them: category L& of an older Unicode.
constexpr const char* kCasedLetters =
    R"(A-Za-z\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293}\x{295}-\x{2af})"
    R"(\x{370}-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386}\x{388}-\x{38a}\x{38c}\x{38e}-\x{3a1})"
    R"(\x{3a3}-\x{3f5}\x{3f7}-\x{481}\x{48a}-\x{52f}\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-\x{13f5})"
    R"(\x{13f8}-\x{13fd}\x{1c90}-\x{1cba}\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77})"
    R"(\x{1d79}-\x{1d9a}\x{1e00}-\x{1f15}\x{1f18}-\x{1f1d}\x{1f20}-\x{1f45}\x{1f48}-\x{1f4d})"
    R"(\x{1f50}-\x{1f57}\x{1f59}\x{1f5b}\x{1f5d}\x{1f5f}-\x{1f7d}\x{1f80}-\x{1fb4}\x{1fb6}-\x{1fbc}\x{1fbe})"
    R"(\x{1fc2}-\x{1fc4}\x{1fc6}-\x{1fcc}\x{1fd0}-\x{1fd3}\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec})"
    R"(\x{1ff2}-\x{1ff4}\x{1ff6}-\x{1ffc}\x{2102}\x{2107}\x{210a}-\x{2113}\x{2115}\x{2119}-\x{211d}\x{2124})"
    R"(\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134}\x{2139}\x{213c}-\x{213f}\x{2145}-\x{2149}\x{214e})"
    R"(\x{2183}\x{2184}\x{2c00}-\x{2c7b}\x{2c7e}-\x{2ce4}\x{2ceb}-\x{2cee}\x{2cf2}\x{2cf3}\x{a640}-\x{a66d})"
    R"(\x{a680}-\x{a69b}\x{a722}-\x{a76f}\x{a771}-\x{a787}\x{a78b}-\x{a78e}\x{ab70}-\x{abbf})"
    R"(\x{fb00}-\x{fb06}\x{fb13}-\x{fb17}\x{ff21}-\x{ff3a}\x{ff41}-\x{ff5a}\x{10400}-\x{1044f})"
    R"(\x{104b0}-\x{104d3}\x{104d8}-\x{104fb}\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2}\x{118a0}-\x{118df})"
    R"(\x{1e900}-\x{1e943})";
constexpr const char* kHan = R"([\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+)";
constexpr const char* kQwenSplit =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kLlama3Split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kDeepSeekV3Words =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct PreTokenizer {
  const char* name;
  std::vector<std::string> splits;
  bool nfc = false, ignore_merges = false, adds_bos = false;  // adds_bos: unless the file says otherwise
};

const std::vector<PreTokenizer>& pre_tokenizers() {
  static const std::vector<PreTokenizer> known = {
      {"deepseek-v3", {R"(\p{N}{1,3})", R"([\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+)", kDeepSeekV3Words}},
      {"deepseek-llm",
       {R"([\r\n])", fmt::format(R"(\s?[{}]+)", kCasedLetters),
        R"(\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+)", R"(\s+$)", kHan,
        R"(\p{N})"}},
      {"deepseek-coder", {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", kHan, R"(\p{N})"}},
      {"deepseek-r1-qwen", {kQwenSplit}, true},
      {"qwen2", {kQwenSplit}, true},
      {"llama-bpe", {kLlama3Split}, false, true, true},
      {"gpt-2", {kGpt2Split}},
      {"smollm", {R"(\p{N})", kGpt2Split}},
      // What files without a name, made before there were names, are read with.
      {"default", {R"([\p{P}$+<=>^~|]+)", kGpt2Split, R"(\p{N}+)", "[0-9][0-9][0-9]"}},
  };
  return known;
}

Error bad(std::string what, std::string found = "", Code code = Code::kCorrupt) {
  return Error{code, std::move(what), "tokenizer.ggml", "", std::move(found), ""};
}

Result<const PreTokenizer*> find_pre_tokenizer(const std::string& name) {
  std::string names;
  for (const PreTokenizer& known : pre_tokenizers()) {
    if (known.name == (name.empty() ? "default" : name)) return &known;
    names += (names.empty() ? "" : ", ") + std::string(known.name);
  }
  Error error = bad("unknown pre-tokenizer", name, Code::kUnsupported);
  error.expected = "one of " + names;
  return error;
}

// "[PAD100015]": fills the vocabulary up to a round number.
bool is_filler(std::string_view text) {
  if (!text.starts_with("[PAD") || !text.ends_with("]") || text.size() < 6) return false;
  return text.substr(4, text.size() - 5).find_first_not_of("0123456789") == text.npos;
}

int type_of(const GgufVocabulary& source, size_t id) { return source.types.empty() ? +kNormal : source.types[id]; }

Status add_token(const GgufVocabulary& source, size_t id, Vocabulary& out) {
  std::string_view text = source.tokens[id];
  if (text.size() > kMaxAddedToken) return bad("a control token is too long", fmt::format("{} bytes", text.size()));
  AddedToken token;
  token.id = static_cast<int32_t>(id);
  token.content = text;
  int type = type_of(source, id);
  token.special = type == kControl || type == kUnknown;
  token.filler = type == kUnused || (type == kUserDefined && is_filler(text));
  out.set_added(std::move(token));
  return {};
}

Status fill_bpe(const GgufVocabulary& source, Vocabulary& out) {
  SONDE_TRY(const PreTokenizer* pre, find_pre_tokenizer(source.pre));
  out.splits = pre->splits;
  if (pre->nfc && !source.no_normalizer) out.normal.push_back({NormalStep::kNfc, "", ""});
  out.ignore_merges = pre->ignore_merges;
  out.adds_bos = source.add_bos.value_or(pre->adds_bos);
  std::string piece;
  for (size_t id = 0; id < source.tokens.size(); ++id) {
    if (type_of(source, id) != kNormal) {
      SONDE_CHECK(add_token(source, id, out));
      continue;
    }
    piece.clear();
    if (!append_mapped_bytes(source.tokens[id], piece)) piece.assign(source.tokens[id]);
    out.pieces.set(static_cast<int32_t>(id), piece);
    out.pieces.index(static_cast<int32_t>(id));
  }
  out.merges.reserve(source.merges.size());
  uint32_t rank = 0;
  for (std::string_view merge : source.merges) {
    std::string_view left, right;
    if (!split_merge(merge, left, right)) {
      return bad(fmt::format("merge {} is not two pieces", rank), lossy_utf8(merge.substr(0, 64)));
    }
    SONDE_CHECK(set_merge(out, left, right, rank++, piece));
  }
  return {};
}

// SentencePiece merges any two neighbours whose joined text is a piece, best score first: every way to cut a piece in
// two becomes a merge whose rank is that of the score (equal scores, equal ranks: the leftmost first).
Status set_score_merges(const GgufVocabulary& source, const std::vector<int32_t>& mergeable, Vocabulary& out) {
  constexpr size_t kLongest = 1024;  // bytes; SentencePiece's own bound is 16 characters unless told otherwise
  auto score = [&](int32_t id) {
    float value = source.scores[static_cast<size_t>(id)];
    return std::isnan(value) ? -INFINITY : value;
  };
  std::vector<int32_t> order = mergeable;
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return score(a) > score(b); });
  auto side = [&](std::string_view form) -> int32_t {
    if (auto id = out.forms.find(form)) return *id;
    Utf8Step step = next_utf8(form);
    bool one = step.valid && static_cast<size_t>(step.length) == form.size();
    return one ? kUnknownCharacter + static_cast<int32_t>(step.code) : -1;
  };
  uint32_t rank = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && score(order[i]) != score(order[i - 1])) ++rank;
    std::string_view form = source.tokens[static_cast<size_t>(order[i])];
    if (form.size() > kLongest)
      return bad("a piece is too long", fmt::format("{} bytes", form.size()), Code::kUnsupported);
    if (out.forms.find(form) != order[i]) continue;  // written twice: the first counts
    for (size_t cut = 1; cut < form.size(); ++cut) {
      if ((static_cast<uint8_t>(form[cut]) & 0xC0) == 0x80) continue;
      int32_t left = side(form.substr(0, cut)), right = side(form.substr(cut));
      if (left >= 0 && right >= 0) out.merges.set(left, right, {rank, order[i]});
    }
  }
  return {};
}

Status fill_sentencepiece(const GgufVocabulary& source, Vocabulary& out) {
  if (source.scores.size() != source.tokens.size()) {
    return bad("a SentencePiece vocabulary needs a score for every piece", fmt::format("{}", source.scores.size()));
  }
  constexpr const char* kSpace = "\xE2\x96\x81";  // U+2581
  out.byte_level = false;
  out.byte_fallback = out.fuse_unk = true;
  if (source.add_space_prefix.value_or(true)) out.normal.push_back({NormalStep::kPrepend, "", kSpace});
  out.normal.push_back({NormalStep::kReplace, " ", kSpace});
  out.adds_bos = source.add_bos.value_or(true);
  std::vector<int32_t> mergeable;
  std::string piece;
  for (size_t i = 0; i < source.tokens.size(); ++i) {
    auto id = static_cast<int32_t>(i);
    int type = type_of(source, i);
    std::string_view form = source.tokens[i];
    if (type != kNormal && type != kByte) {
      SONDE_CHECK(add_token(source, i, out));
      if (type == kUnknown && !out.unk) out.unk = id;
      continue;
    }
    auto byte = type == kByte ? byte_piece(form) : std::nullopt;
    if (type == kByte && !byte) return bad("a byte piece is not written <0xNN>", lossy_utf8(form.substr(0, 64)));
    piece.clear();
    for (size_t at = 0; at < form.size() && !byte;) {
      bool space = form.substr(at).starts_with(kSpace);
      piece.push_back(space ? ' ' : form[at]);
      at += space ? 3 : 1;
    }
    if (byte) piece.assign(1, static_cast<char>(*byte));
    out.pieces.set(id, piece);
    out.forms.set(id, form);
    out.forms.index(id);
    if (type == kNormal) mergeable.push_back(id);
  }
  return set_score_merges(source, mergeable, out);
}

}  // namespace

Result<Vocabulary> vocabulary_from_gguf(const GgufVocabulary& source) {
  size_t count = source.tokens.size();
  if (count == 0 || count >= static_cast<size_t>(kUnknownCharacter))
    return bad("no vocabulary", fmt::format("{} tokens", count));
  if (!source.types.empty() && source.types.size() != count) {
    return bad("token types and tokens differ in number", fmt::format("{} and {}", source.types.size(), count));
  }
  size_t bytes = 0;
  for (std::string_view token : source.tokens) bytes += token.size();
  if (bytes >= UINT32_MAX) return bad("the vocabulary is too large", fmt::format("{} bytes", bytes), Code::kTooLarge);
  Vocabulary out;
  out.where = "tokenizer.ggml";
  out.pieces.reserve(count, bytes);
  if (source.model == "gpt2") {
    SONDE_CHECK(fill_bpe(source, out));
  } else if (source.model == "llama") {
    SONDE_CHECK(fill_sentencepiece(source, out));
  } else {
    Error error = bad("unknown kind of tokenizer", source.model, Code::kUnsupported);
    error.expected = "gpt2 or llama";
    return error;
  }
  auto named = [&](const char* name) -> std::optional<int32_t> {
    auto it = source.ids.find(name);
    if (it == source.ids.end() || it->second < 0 || static_cast<size_t>(it->second) >= count) return std::nullopt;
    return it->second;
  };
  out.bos = named("bos");
  out.eos = named("eos");
  if (!out.byte_level && !out.unk) out.unk = named("unk");
  out.adds_bos = out.adds_bos && out.bos;
  return out;
}

}  // namespace sonde
