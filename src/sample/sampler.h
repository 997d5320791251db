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

#include "kernels/kernels.h"
#include "sample/penalties.h"
#include "sonde/sampling.h"

namespace sonde {

class Sampler {
 public:
  // `options` are valid (validate.h). `sample` tells answers to one prompt apart that share a seed.
  Sampler(const SamplingOptions& options, uint64_t seed, uint64_t sample, std::span<const int32_t> prompt);

  // The next token; logits must be finite and at least one. Does not count it: call accept() with the token that was
  // used. Of the logits it looks at the blocks alone that can matter.
  int32_t choose(SummarisedRow logits);  // `total` with summary_factor()
  int32_t choose(std::span<const float> logits) { return choose(SummarisedRow{logits}); }
  // What choose() makes use of; 0: no totals.
  float summary_factor() const { return penalties_.active() ? 0 : factor_; }
  void accept(int32_t id);

 private:
  struct Candidate {
    float logit;
    int32_t id;
  };
  // Lies between two numbers; the same number twice once it has been summed exactly.
  struct Bounds {
    double low, high;
  };
  SummarisedRow summarised(std::span<const float> logits);
  int32_t draw(const SummarisedRow& logits);
  double weight(float logit) const;
  void keep_best(const SummarisedRow& logits);
  Bounds total(const SummarisedRow& logits) const;
  double exact_total(const SummarisedRow& logits) const;
  template <class F>
  void each_within(const SummarisedRow& logits, double within, F&& f) const;
  void collect(const SummarisedRow& logits, double beyond, double within);
  bool rank_next(const SummarisedRow& logits);

  SamplingOptions options_;
  uint64_t seed_, sample_, index_ = 0;
  Penalties penalties_;
  const float factor_;              // of the summaries' totals; 0: none are asked for
  std::vector<float> changed_;      // logits after penalties
  std::vector<float> most_, sums_;  // summaries where none were given
  double largest_ = 0, reach_ = 0;  // of the logits at hand; those further below the largest are left out

  std::vector<Candidate> best_;        // of top-k, by id; empty: all
  std::vector<Candidate> candidates_;  // a heap: no farther than seen_ from the largest, not ranked yet
  double seen_ = 0;
  std::vector<int32_t> ranked_;  // best first
  std::vector<double> weights_;  // unnormalised probabilities of these
};

// The largest value's index, the lowest among equals.
int32_t argmax(const SummarisedRow& logits);
inline int32_t argmax(std::span<const float> logits) { return argmax(SummarisedRow{logits}); }
// False when any value is NaN or infinite.
bool finite(const SummarisedRow& logits);
inline bool finite(std::span<const float> logits) { return finite(SummarisedRow{logits}); }

}  // namespace sonde
