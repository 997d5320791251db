// How the next token is chosen from the logits. Defaults are plain sampling at temperature 1.
// The order in which they act is in src/sample/sampler.h.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace sonde {

struct SamplingOptions {
  double temperature = 1.0;            // 0: greedy (lowest id wins a tie)
  double top_p = 1.0;                  // (0, 1]: smallest set of tokens whose probabilities reach it
  int top_k = 0;                       // 0: all
  double min_p = 0.0;                  // [0, 1): tokens below min_p times the largest probability are dropped
  double repetition_penalty = 1.0;     // > 0: logits of seen tokens divided (positive) or multiplied (negative)
  double presence_penalty = 0.0;       // [-2, 2]: subtracted once from tokens of the answer so far
  double frequency_penalty = 0.0;      // [-2, 2]: subtracted per occurrence in the answer so far
  std::map<int32_t, double> logit_bias = {};  // added to the logits of these ids
  std::optional<uint64_t> seed = {};   // unset: a fresh one for each request, reported back
};

}  // namespace sonde
