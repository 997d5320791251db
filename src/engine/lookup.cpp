#include "engine/lookup.h"

namespace sonde {

void look_up(std::span<const int32_t> text, int64_t most, Match& match) {
  const auto size = static_cast<int64_t>(text.size());
  match.length = 0, match.next.clear();
  if (size < 2 || most < 1) return;
  int64_t follows = 0;
  const int32_t* const ids = text.data();
  const int32_t last = ids[size - 1];
  for (int64_t at = size - 2; at >= 0 && match.length < kLongestMatch; --at) {
    if (ids[at] != last) continue;
    int64_t length = 1;
    while (length < kLongestMatch && length <= at && ids[at - length] == ids[size - 1 - length]) ++length;
    if (length <= match.length) continue;
    match.length = length;
    follows = at + 1;
  }
  if (match.length == 0) return;
  for (int64_t i = 0; i < most; ++i) {
    const int64_t from = follows + i;
    match.next.push_back(from < size ? ids[from] : match.next[static_cast<std::size_t>(from - size)]);
  }
}

}  // namespace sonde
