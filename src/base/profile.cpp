#include "base/profile.h"

#include <ctime>

namespace sonde {

int64_t Profile::now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

void Profile::charge() {
  const int64_t now = now_ns();
  if (open_ != 0) operations_[open_].ns += now - since_;
  since_ = now;
}

std::size_t Profile::enter(std::string_view name) {
  charge();
  const std::size_t outer = open_;
  for (open_ = 1; open_ < operations_.size() && operations_[open_].name != name;) ++open_;
  if (open_ == operations_.size()) operations_.push_back({.name = name});
  ++operations_[open_].calls;
  return outer;
}

void Profile::leave(std::size_t outer) {
  charge();
  open_ = outer;
}

}  // namespace sonde
