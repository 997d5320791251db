// Notices an answer that only repeats itself.
//
// It fires when the last max(kLoopTokens, kLoopRepeats * period) tokens are one sequence of `period` tokens over and
// over, exactly, for a period of at most kLoopPeriod. Ordinary text stays far below: a ruled line, a row of zeros or a
// table's equal cells are some dozens of tokens; blocks of code that repeat differ in a name or a number, which breaks
// the run.
#pragma once

#include <cstdint>
#include <vector>

namespace sonde {

inline constexpr int kLoopPeriod = 256;  // tokens
inline constexpr int kLoopTokens = 512;  // tokens
inline constexpr int kLoopRepeats = 6;

class LoopGuard {
 public:
  // Counts a token of the answer; true: the answer is a loop.
  bool add(int32_t id);
  int period() const { return period_; }  // of the loop found; 0: none

 private:
  std::vector<int32_t> recent_ = std::vector<int32_t>(kLoopPeriod);  // ring
  std::vector<int> run_ = std::vector<int>(kLoopPeriod + 1);         // run_[p]: latest tokens equal to the one p before
  int64_t count_ = 0;
  int period_ = 0;
};

}  // namespace sonde
