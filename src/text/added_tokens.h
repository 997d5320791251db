// Added tokens: cut out of a text before anything else happens to it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sonde {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;                 // as published
  bool single_word = false;             // only where no letter or digit stands beside it
  bool lstrip = false, rstrip = false;  // takes up white space before or after
  bool normalized = false;              // looked for in the normalised text
  bool filler = false;                  // [PADn] of GGUF files: never in a text
};

// BOS, role marks and the like: special, or written <|...|> or <｜...｜>.
bool looks_like_control(const AddedToken& token);
// One character and not special: text, though published as an added token (deepseek-llm, deepseek-coder).
bool is_plain_letter(const AddedToken& token);

// Finds a set of tokens in texts: leftmost, longest.
class TokenFinder {
 public:
  void add(const AddedToken& token);
  bool empty() const { return tokens_.empty(); }
  struct Found {
    size_t start, end;
    int32_t id;
  };
  // All matches in order, without overlaps.
  void find(std::string_view text, std::vector<Found>& out) const;

 private:
  struct Node {
    std::vector<std::pair<uint8_t, uint32_t>> next;
    int32_t token = -1;  // index into tokens_
  };
  std::vector<Node> nodes_{Node{}};
  std::vector<AddedToken> tokens_;
  std::array<uint32_t, 256> first_{};  // node of a first byte; 0: none
};

}  // namespace sonde
