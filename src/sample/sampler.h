// Logits -> one token.
//
// The order, each step on what the one before left:
//   logit bias, repetition, presence and frequency penalties (penalties.h)
//   temperature 0: the largest logit, the lowest id among equals; nothing below applies
//   p = softmax(logits / temperature), in double
//   top-k: the k most probable tokens
//   top-p: of those, renormalised, the smallest set (most probable first) whose sum reaches top_p
//   min-p: of those, the tokens with at least min_p times the largest probability
//   one token drawn from the rest, renormalised
// Equal probabilities are ranked by id, lowest first. A token less than 2^-60 times as probable as the best is never
// drawn.
//
// The draw for token i of an answer is number i of the Philox stream (seed, sample): it depends on nothing else.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sample/penalties.h"
#include "sonde/sampling.h"

namespace sonde {

class Sampler {
 public:
  // `options` are valid (validate.h). `sample` tells answers to one prompt apart that share a seed.
  Sampler(const SamplingOptions& options, uint64_t seed, uint64_t sample, std::span<const int32_t> prompt);

  // The next token; logits must be finite and at least one. Does not count it: call accept() with the token that was
  // used.
  int32_t choose(std::span<const float> logits);
  void accept(int32_t id);

 private:
  int32_t draw(std::span<const float> logits);

  SamplingOptions options_;
  uint64_t seed_, sample_, index_ = 0;
  Penalties penalties_;
  std::vector<float> changed_;  // logits after penalties
  struct Candidate {
    float logit;
    int32_t id;
  };
  std::vector<Candidate> candidates_;  // most probable last until sorted out
  std::vector<double> weights_;        // unnormalised probabilities, best first
};

// The largest value's index, the lowest among equals.
int32_t argmax(std::span<const float> logits);
// False when any value is NaN or infinite.
bool finite(std::span<const float> logits);

}  // namespace sonde
