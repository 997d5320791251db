// What a tokenizer is made of, whatever file it came from.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "files/checkpoint.h"
#include "sonde/result.h"
#include "text/added_tokens.h"
#include "text/bpe.h"

namespace sonde {

// One step of normalisation, applied to every stretch of text between added tokens that is not empty.
struct NormalStep {
  enum Kind {
    kNfc,
    kPrepend,      // `to` in front
    kPrefixSpace,  // a space in front unless there is one
    kReplace,      // every `from` by `to`
  };
  Kind kind;
  std::string from, to;
};

struct Vocabulary {
  std::string where;       // for errors
  bool byte_level = true;  // symbols are bytes; else characters, unknown ones as bytes or unk
  PieceTable pieces;       // by id: the bytes that decoding gives
  PieceTable forms;        // character vocabularies: as the file writes them, for encoding
  MergeTable merges;
  std::vector<AddedToken> added;
  std::vector<bool> control;  // by id
  std::vector<NormalStep> normal;
  std::vector<std::string> splits;
  bool ignore_merges = false;
  bool byte_fallback = false;
  bool fuse_unk = false;
  std::optional<int32_t> unk, bos, eos;
  bool adds_bos = false;

  const PieceTable& lookup() const { return byte_level ? pieces : forms; }
  void set_added(AddedToken token);  // piece, control flag, and the list
  void set_control(int32_t id);
};

// Characters outside a character vocabulary take part in merging under this id + their code point.
inline constexpr int32_t kUnknownCharacter = 0x40000000;
inline constexpr size_t kMaxAddedToken = 4096;  // bytes

// GPT-2's printable stand-ins for bytes: appends the bytes of `text` and returns true, or leaves `out` alone where a
// character is none of them.
bool append_mapped_bytes(std::string_view text, std::string& out);
// "<0x0A>" -> 10
std::optional<uint8_t> byte_piece(std::string_view text);
// "left right" with exactly one space.
bool split_merge(std::string_view merge, std::string_view& left, std::string_view& right);
// Enters a merge given by its two forms; an error where a part or the whole is not in the vocabulary.
Status set_merge(Vocabulary& vocabulary, std::string_view left, std::string_view right, uint32_t rank,
                 std::string& buffer);

// GPT-2's split; what ByteLevel does unless told not to.
extern const char* const kGpt2Split;

Result<Vocabulary> vocabulary_from_json(std::string_view tokenizer_json, const std::string& tokenizer_config);
Result<Vocabulary> vocabulary_from_gguf(const GgufVocabulary& source);

}  // namespace sonde
