// Pre-tokenisation: published regular expressions in sequence, each applied to the pieces that the one before left.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sonde/result.h"

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;

namespace sonde {

// The pattern with \s and \S as Unicode White_Space. PCRE2's own \s also takes U+180E, which lost the property in
// Unicode 6.3.
std::string white_space_pattern(std::string_view pattern);

// Matches and the gaps between them become pieces ("Isolated"); nothing is dropped.
class Splitter {
 public:
  struct Scratch {
    std::unique_ptr<pcre2_real_match_data_8, void (*)(pcre2_real_match_data_8*)> match{nullptr, nullptr};
    std::vector<size_t> ends, next;
  };

  // `where` names the source in errors. An empty list leaves every text whole.
  static Result<Splitter> create(const std::vector<std::string>& patterns, const std::string& where);

  // Ends of the pieces of `text` (valid UTF-8), in order; the last is text.size(). Stays valid until the next call.
  const std::vector<size_t>& split(std::string_view text, Scratch& scratch) const;

 private:
  using Compiled = std::unique_ptr<pcre2_real_code_8, void (*)(pcre2_real_code_8*)>;
  std::vector<Compiled> steps_;
};

}  // namespace sonde
