// Prompt lookup: what followed the last place where a text ends as it ends now (A. Saxena's prompt lookup decoding,
// 2023).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sonde {

inline constexpr int64_t kLongestMatch = 8;  // tokens compared at most

struct Match {
  int64_t length = 0;         // tokens that agree, kLongestMatch at most; 0: none
  std::vector<int32_t> next;  // `most` tokens; where the text ends they go on as what was looked up itself goes on
};
// The longest agreement counts, the latest among equals. `match` is overwritten, its memory used again.
void look_up(std::span<const int32_t> text, int64_t most, Match& match);

}  // namespace sonde
