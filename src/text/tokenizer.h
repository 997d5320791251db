// Text <-> token ids, as the published tokenizers do it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "files/checkpoint.h"
#include "sonde/result.h"

namespace sonde {

// Which added tokens are recognised when they are written out in a text.
enum class Special {
  kNone,   // text stays text; only added tokens that are plain letters match (deepseek-llm, deepseek-coder)
  kThink,  // besides, <think> and </think> where they are single tokens (message text inside a rendered prompt)
  kAll,    // all added tokens (trusted templates)
};

class Tokenizer {
 public:
  static Result<std::unique_ptr<Tokenizer>> open(const Checkpoint& checkpoint);
  static Result<std::unique_ptr<Tokenizer>> open(const TokenizerSource& source);
  virtual ~Tokenizer() = default;

  // No BOS or EOS is added. Any bytes are accepted: what is not UTF-8 is handled as the published tokenizers handle U+FFFD.
  virtual std::vector<int32_t> encode(std::string_view text, Special special = Special::kNone) const = 0;
  // The exact bytes of the tokens, control tokens written out; ids out of range give nothing.
  virtual std::string decode(std::span<const int32_t> ids) const = 0;
  virtual std::string_view piece(int32_t id) const = 0;      // raw bytes of one token; "" when out of range
  virtual int32_t vocab_size() const = 0;                    // ids in use: largest + 1
  virtual std::optional<int32_t> find(std::string_view token) const = 0;  // id of a token written exactly so (added tokens first)
  virtual bool is_control(int32_t id) const = 0;             // BOS, role marks ...: never part of an answer's text
  virtual std::optional<int32_t> bos() const = 0;
  virtual std::optional<int32_t> eos() const = 0;
  virtual bool adds_bos() const = 0;                         // raw prompts start with BOS
  virtual std::string_view kind() const = 0;                 // "byte-level BPE", "SentencePiece BPE": for reports
  // Ends of the pre-tokenised pieces in bytes of the normalised text (tests compare them with the goldens' `cuts`).
  virtual std::vector<int64_t> cuts(std::string_view text) const = 0;
};

// Streams text without splitting UTF-8: bytes of an unfinished character are held back until it is whole.
class Utf8Stream {
 public:
  std::string push(std::string_view bytes);  // what is complete now
  std::string finish();                      // the rest; a broken sequence becomes U+FFFD

 private:
  std::string pending_;
};

}  // namespace sonde
