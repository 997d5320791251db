// The thinking budget: counts tokens while the output is inside <think> and, at the limit, gives the tokens that close
// it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sonde {

class BudgetTracker {
 public:
  // `limit` -1: none. `closing`: tokens of the closing sentence and of </think>. `thinking`: the output starts inside
  // <think>.
  BudgetTracker(int limit, std::vector<int32_t> closing, bool thinking)
      : limit_(limit), closing_(std::move(closing)), thinking_(thinking) {}

  // The token that has to come next, if one is forced. A character that the thought has begun may be finished first.
  std::optional<int32_t> forced() const;
  // Counts a token that was used; `piece`: its bytes. True where it belongs to the thought (the closing tag included).
  bool add(std::string_view piece);

  bool thinking() const { return thinking_; }
  int64_t reasoning_tokens() const { return reasoning_; }

 private:
  int limit_;
  std::vector<int32_t> closing_;
  std::size_t closed_ = 0;  // tokens of `closing` given so far
  bool thinking_;
  int64_t thought_ = 0;    // tokens of the present thought
  int64_t reasoning_ = 0;  // tokens of all thoughts
  int waited_ = 0;         // tokens past the limit, for an unfinished character
  std::string tail_;       // the output's last bytes, to find tags that span tokens
};

}  // namespace sonde
