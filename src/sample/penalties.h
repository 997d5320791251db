// What changes the logits before a token is chosen: logit bias, then the repetition penalty (CTRL, arXiv 1909.05858,
// section 4.1) over prompt and answer, then the presence and frequency penalties over the answer alone.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "sonde/sampling.h"

namespace sonde {

class Penalties {
 public:
  Penalties(const SamplingOptions& options, std::span<const int32_t> prompt);

  bool active() const { return active_; }
  void add(int32_t id);                       // a token of the answer
  void apply(std::span<float> logits) const;  // ids beyond the logits are ignored

 private:
  bool active_;
  double repetition_, presence_, frequency_;
  std::map<int32_t, double> bias_;
  // By id; memory is taken where they double.
  std::vector<int32_t> seen_;                        // prompt and answer; kept for the repetition penalty only
  std::vector<std::pair<int32_t, int64_t>> answer_;  // occurrences
};

}  // namespace sonde
