#include "sample/loop_guard.h"

#include <algorithm>

namespace sonde {

bool LoopGuard::add(int32_t id) {
  const int reach = static_cast<int>(std::min<int64_t>(count_, kLoopPeriod));
  for (int p = 1; p <= reach; ++p) {
    run_[p] = recent_[(count_ - p) % kLoopPeriod] == id ? run_[p] + 1 : 0;
    // `run` equal pairs at distance p are run + p tokens of period p.
    if (period_ == 0 && run_[p] + p >= std::max(kLoopTokens, kLoopRepeats * p)) period_ = p;
  }
  recent_[count_++ % kLoopPeriod] = id;
  return period_ != 0;
}

}  // namespace sonde
