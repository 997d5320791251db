#include "sample/budget.h"

namespace sonde {
namespace {

constexpr std::string_view kOpen = "<think>", kClose = "</think>";

// True when `bytes` ends within a UTF-8 character.
bool unfinished(std::string_view bytes) {
  for (std::size_t back = 1; back <= 3 && back <= bytes.size(); ++back) {
    const auto c = static_cast<unsigned char>(bytes[bytes.size() - back]);
    if (c < 0x80) return false;
    if (c >= 0xC0) return back < (c >= 0xF0 ? 4u : c >= 0xE0 ? 3u : 2u);
  }
  return false;
}

}  // namespace

std::optional<int32_t> BudgetTracker::forced() const {
  if (closing_.empty()) return std::nullopt;
  if (closed_ > 0) return closing_[closed_];
  if (limit_ < 0 || !thinking_ || thought_ < limit_) return std::nullopt;
  if (waited_ < 3 && unfinished(tail_)) return std::nullopt;
  return closing_[0];
}

bool BudgetTracker::add(std::string_view piece) {
  const bool was_forced = forced().has_value();
  const bool inside = thinking_;
  if (inside) ++thought_, ++reasoning_;
  if (limit_ >= 0 && inside && !was_forced && thought_ > limit_) ++waited_;
  if (was_forced && ++closed_ == closing_.size()) {
    closed_ = 0;
    thinking_ = false;
    thought_ = 0, waited_ = 0;
    tail_.clear();
    return inside;
  }
  // Only a tag that ends in this piece is new: a longer tail than the longest tag without its last byte is never
  // needed.
  const std::size_t old = tail_.size();
  tail_ += piece;
  for (std::size_t from = 0;;) {
    const std::string_view tag = thinking_ ? kClose : kOpen;
    const std::size_t at = tail_.find(tag, from);
    if (at == std::string::npos) break;
    from = at + tag.size();
    if (from <= old) continue;
    thinking_ = !thinking_;
    thought_ = 0, waited_ = 0;
  }
  if (tail_.size() > kClose.size() - 1) tail_.erase(0, tail_.size() - (kClose.size() - 1));
  return inside;
}

}  // namespace sonde
