// Log-probabilities of the raw logits (temperature 1, before penalties and top-p), in double.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sonde/engine.h"

namespace sonde {

inline constexpr int kMostLogprobs = 20;

struct Logprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // `count` best, best first, equal ones by id
};
// `count` at most kMostLogprobs; fewer come back where the vocabulary is smaller.
Logprobs logprobs(std::span<const float> logits, int32_t chosen, int count);

// log(sum(exp(logits))).
double log_sum_exp(std::span<const float> logits);

}  // namespace sonde
