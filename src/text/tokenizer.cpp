#include "text/tokenizer.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "text/split.h"
#include "text/unicode.h"
#include "text/vocabulary.h"

namespace sonde {
namespace {

class BpeTokenizer final : public Tokenizer {
 public:
  BpeTokenizer(Vocabulary vocabulary, Splitter splitter)
      : vocabulary_(std::move(vocabulary)), splitter_(std::move(splitter)) {
    const PieceTable& lookup = vocabulary_.lookup();
    for (int byte = 0; byte < 256; ++byte) {
      char c = static_cast<char>(byte);
      std::string form = vocabulary_.byte_level ? std::string(1, c) : hex_form(byte);
      byte_ids_[static_cast<size_t>(byte)] = lookup.find(form).value_or(-1);
    }
    bool all_bytes = std::none_of(byte_ids_.begin(), byte_ids_.end(), [](int32_t id) { return id < 0; });
    byte_fallback_ = !vocabulary_.byte_level && vocabulary_.byte_fallback && all_bytes;
    bool composes = std::any_of(vocabulary_.normal.begin(), vocabulary_.normal.end(),
                                [](const NormalStep& step) { return step.kind == NormalStep::kNfc; });
    for (AddedToken token : vocabulary_.added) {
      bool think = token.content == "<think>" || token.content == "</think>";
      if (token.normalized && composes && valid_utf8(token.content)) token.content = nfc(token.content);
      for (Special special : {Special::kNone, Special::kThink, Special::kAll}) {
        bool wanted = is_plain_letter(token) || special == Special::kAll || (think && special == Special::kThink);
        if (wanted) finder(special, token.normalized).add(token);
      }
    }
    for (auto id : {vocabulary_.bos, vocabulary_.eos}) {
      if (id) vocabulary_.set_control(*id);
    }
  }

  std::vector<int32_t> encode(std::string_view text, Special special) const override {
    Lease scratch(*this);
    std::vector<int32_t> out;
    out.reserve(text.size() / 3 + 8);
    each_stretch(text, special, *scratch, [&](std::string_view stretch, int32_t id) {
      if (id >= 0) {
        out.push_back(id);
      } else {
        encode_stretch(stretch, *scratch, out);
      }
    });
    return out;
  }

  std::vector<int64_t> cuts(std::string_view text) const override {
    Lease scratch(*this);
    std::vector<int64_t> out;
    int64_t base = 0;
    each_stretch(text, Special::kNone, *scratch, [&](std::string_view stretch, int32_t id) {
      if (id >= 0) {
        out.push_back(base + static_cast<int64_t>(stretch.size()));
      } else {
        for (size_t end : splitter_.split(stretch, scratch->split)) out.push_back(base + static_cast<int64_t>(end));
      }
      base += static_cast<int64_t>(stretch.size());
    });
    return out;
  }

  std::string decode(std::span<const int32_t> ids) const override {
    std::string out;
    for (int32_t id : ids) out.append(vocabulary_.pieces.piece(id));
    return out;
  }

  std::string_view piece(int32_t id) const override { return vocabulary_.pieces.piece(id); }
  int32_t vocab_size() const override { return vocabulary_.pieces.size(); }
  std::optional<int32_t> find(std::string_view token) const override {
    for (const AddedToken& added : vocabulary_.added) {
      if (added.content == token && !added.filler) return added.id;
    }
    return vocabulary_.lookup().find(token);
  }
  bool is_control(int32_t id) const override {
    return id >= 0 && static_cast<size_t>(id) < vocabulary_.control.size() &&
           vocabulary_.control[static_cast<size_t>(id)];
  }
  std::optional<int32_t> bos() const override { return vocabulary_.bos; }
  std::optional<int32_t> eos() const override { return vocabulary_.eos; }
  bool adds_bos() const override { return vocabulary_.adds_bos; }
  std::string_view kind() const override { return vocabulary_.byte_level ? "byte-level BPE" : "SentencePiece BPE"; }

 private:
  // Working memory of one call; kept between calls, one for each thread that encodes at the same time.
  struct Scratch {
    Splitter::Scratch split;
    PieceCache cache;
    std::vector<int32_t> symbols;
    std::vector<TokenFinder::Found> raw, inner;
    std::string normal, buffer;
  };
  class Lease {
   public:
    explicit Lease(const BpeTokenizer& owner) : owner_(owner) {
      std::lock_guard lock(owner_.mutex_);
      if (owner_.idle_.empty()) {
        scratch_ = std::make_unique<Scratch>();
      } else {
        scratch_ = std::move(owner_.idle_.back());
        owner_.idle_.pop_back();
      }
    }
    ~Lease() {
      constexpr size_t kLarge = 1 << 22;  // after a very long text memory goes back
      if (scratch_->symbols.capacity() > kLarge || scratch_->normal.capacity() > kLarge ||
          scratch_->split.ends.capacity() > kLarge) {
        return;
      }
      std::lock_guard lock(owner_.mutex_);
      owner_.idle_.push_back(std::move(scratch_));
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Scratch& operator*() const { return *scratch_; }
    Scratch* operator->() const { return scratch_.get(); }

   private:
    const BpeTokenizer& owner_;
    std::unique_ptr<Scratch> scratch_;
  };

  static std::string hex_form(int byte) {
    constexpr const char* kDigits = "0123456789ABCDEF";
    return {'<', '0', 'x', kDigits[byte >> 4], kDigits[byte & 15], '>'};
  }

  TokenFinder& finder(Special special, bool normalized) {
    return finders_[static_cast<size_t>(special)][normalized ? 1 : 0];
  }

  // Calls use(stretch of normalised text, -1) and use(text of an added token, id) in order.
  template <class Use>
  void each_stretch(std::string_view text, Special special, Scratch& scratch, const Use& use) const {
    std::string mended;
    if (!valid_utf8(text)) text = mended = lossy_utf8(text);
    const auto& [raw, normalized] = finders_[static_cast<size_t>(special)];
    // Calls use() for the matches in `whole`, gap() for what lies between.
    auto cut = [&](std::string_view whole, const TokenFinder& tokens, std::vector<TokenFinder::Found>& found,
                   const auto& gap) {
      found.clear();
      if (!tokens.empty()) tokens.find(whole, found);
      size_t done = 0;
      for (const TokenFinder::Found& match : found) {
        if (match.start > done) gap(whole.substr(done, match.start - done));
        use(whole.substr(match.start, match.end - match.start), match.id);
        done = match.end;
      }
      if (done < whole.size()) gap(whole.substr(done));
    };
    cut(text, raw, scratch.raw, [&](std::string_view gap) {
      cut(normalize(gap, scratch), normalized, scratch.inner, [&](std::string_view inner) { use(inner, -1); });
    });
  }

  // The text itself where nothing changes, else in scratch.normal.
  std::string_view normalize(std::string_view text, Scratch& scratch) const {
    for (const NormalStep& step : vocabulary_.normal) {
      switch (step.kind) {
        case NormalStep::kNfc:
          if (surely_nfc(text)) continue;
          scratch.buffer = nfc(text);
          break;
        case NormalStep::kPrefixSpace:
          if (text.starts_with(' ')) continue;
          scratch.buffer.clear();
          scratch.buffer.push_back(' ');
          scratch.buffer.append(text);
          break;
        case NormalStep::kPrepend:
          scratch.buffer.assign(step.to).append(text);
          break;
        case NormalStep::kReplace:
          if (text.find(step.from) == text.npos) continue;
          replace(text, step.from, step.to, scratch.buffer);
          break;
      }
      std::swap(scratch.normal, scratch.buffer);
      text = scratch.normal;
    }
    return text;
  }

  static void replace(std::string_view text, std::string_view from, std::string_view to, std::string& out) {
    out.clear();
    size_t done = 0;
    for (size_t at = text.find(from); at != text.npos; at = text.find(from, done)) {
      out.append(text.substr(done, at - done)).append(to);
      done = at + from.size();
    }
    out.append(text.substr(done));
  }

  void encode_stretch(std::string_view text, Scratch& scratch, std::vector<int32_t>& out) const {
    size_t start = 0;
    for (size_t end : splitter_.split(text, scratch.split)) {
      encode_piece(text.substr(start, end - start), scratch, out);
      start = end;
    }
  }

  void encode_piece(std::string_view piece, Scratch& scratch, std::vector<int32_t>& out) const {
    bool cached = piece.size() <= PieceCache::kLongest;
    uint64_t hash = 0;
    if (cached) {
      hash = hash_bytes(piece);
      size_t count = 0;
      if (const int32_t* ids = scratch.cache.find(piece, hash, count)) {
        out.insert(out.end(), ids, ids + count);
        return;
      }
    }
    size_t before = out.size();
    std::optional<int32_t> whole;
    if (vocabulary_.ignore_merges) whole = vocabulary_.lookup().find(piece);
    if (whole) {
      out.push_back(*whole);
    } else {
      set_symbols(piece, scratch.symbols);
      scratch.symbols.resize(merge_symbols(vocabulary_.merges, scratch.symbols.data(), scratch.symbols.size()));
      append_symbols(scratch.symbols, out);
    }
    if (cached) scratch.cache.put(piece, hash, out.data() + before, out.size() - before);
  }

  // A byte or character that is not in the vocabulary and cannot be written otherwise is left out, as published.
  void set_symbols(std::string_view piece, std::vector<int32_t>& symbols) const {
    symbols.clear();
    if (vocabulary_.byte_level) {
      for (char c : piece) {
        int32_t id = byte_ids_[static_cast<uint8_t>(c)];
        if (id < 0 && vocabulary_.unk) id = kUnknownCharacter;
        if (id >= 0) symbols.push_back(id);
      }
      return;
    }
    while (!piece.empty()) {
      Utf8Step step = next_utf8(piece);
      std::string_view character = piece.substr(0, static_cast<size_t>(step.length));
      piece.remove_prefix(character.size());
      if (auto id = vocabulary_.lookup().find(character)) {
        symbols.push_back(*id);
      } else if (byte_fallback_ || vocabulary_.unk) {
        symbols.push_back(kUnknownCharacter + static_cast<int32_t>(step.code));
      }
    }
  }

  // Unknown characters become their bytes, or unk; a run of them is one unk where the vocabulary fuses them.
  void append_symbols(const std::vector<int32_t>& symbols, std::vector<int32_t>& out) const {
    bool after_unk = false;
    for (int32_t id : symbols) {
      bool unknown = id >= kUnknownCharacter;
      if (!unknown) {
        out.push_back(id);
      } else if (byte_fallback_) {
        std::string bytes;
        append_utf8(bytes, static_cast<char32_t>(id - kUnknownCharacter));
        for (char c : bytes) out.push_back(byte_ids_[static_cast<uint8_t>(c)]);
      } else if (!(after_unk && vocabulary_.fuse_unk)) {
        out.push_back(*vocabulary_.unk);
      }
      after_unk = unknown;
    }
  }

  Vocabulary vocabulary_;
  Splitter splitter_;
  std::array<int32_t, 256> byte_ids_{};
  bool byte_fallback_ = false;
  std::array<std::array<TokenFinder, 2>, 3> finders_;  // by Special; in the raw and in the normalised text
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> idle_;
};

}  // namespace

Result<std::unique_ptr<Tokenizer>> Tokenizer::open(const TokenizerSource& source) {
  if (source.tokenizer_json.empty() && !source.gguf) {
    return Error{Code::kNotFound, "no tokenizer", "", "tokenizer.json or a GGUF vocabulary", "", ""};
  }
  SONDE_TRY(Vocabulary vocabulary, source.tokenizer_json.empty()
                                       ? vocabulary_from_gguf(*source.gguf)
                                       : vocabulary_from_json(source.tokenizer_json, source.tokenizer_config));
  SONDE_TRY(Splitter splitter, Splitter::create(vocabulary.splits, vocabulary.where));
  return std::unique_ptr<Tokenizer>(std::make_unique<BpeTokenizer>(std::move(vocabulary), std::move(splitter)));
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::open(const Checkpoint& checkpoint) {
  return open(checkpoint.tokenizer());
}

}  // namespace sonde
