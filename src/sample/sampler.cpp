#include "sample/sampler.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/random.h"

namespace sonde {

int32_t argmax(std::span<const float> logits) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < logits.size(); ++i) {
    if (logits[i] > logits[best]) best = i;
  }
  return static_cast<int32_t>(best);
}

bool finite(std::span<const float> logits) {
  float bad = 0;  // x - x is 0 for finite x, NaN otherwise, and NaN stays
  for (float x : logits) bad += x - x;
  return bad == 0;
}

Sampler::Sampler(const SamplingOptions& options, uint64_t seed, uint64_t sample, std::span<const int32_t> prompt)
    : options_(options), seed_(seed), sample_(sample), penalties_(options, prompt) {}

int32_t Sampler::choose(std::span<const float> logits) {
  if (penalties_.active()) {
    changed_.assign(logits.begin(), logits.end());
    penalties_.apply(changed_);
    logits = changed_;
  }
  return options_.temperature == 0 ? argmax(logits) : draw(logits);
}

void Sampler::accept(int32_t id) {
  penalties_.add(id);
  ++index_;
}

int32_t Sampler::draw(std::span<const float> logits) {
  const auto better = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  };
  const auto worse = [&](const Candidate& a, const Candidate& b) { return better(b, a); };

  const double largest = logits[argmax(logits)];
  const double reach = 60 * std::numbers::ln2 * options_.temperature;  // 2^-60 and less: left out
  candidates_.clear();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (largest - logits[i] <= reach) candidates_.push_back({logits[i], static_cast<int32_t>(i)});
  }
  if (options_.top_k > 0 && static_cast<std::size_t>(options_.top_k) < candidates_.size()) {
    std::nth_element(candidates_.begin(), candidates_.begin() + options_.top_k, candidates_.end(), better);
    candidates_.resize(options_.top_k);
    std::sort(candidates_.begin(), candidates_.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  }
  const auto weight = [&](const Candidate& c) { return std::exp((c.logit - largest) / options_.temperature); };

  // Take the best from a heap until top_p of the sum is reached: cheap where few tokens carry it.
  double sum = 0;
  if (options_.top_p < 1) {
    for (const Candidate& c : candidates_) sum += weight(c);  // by id: an order that the candidates alone fix
  }
  std::make_heap(candidates_.begin(), candidates_.end(), worse);
  weights_.clear();
  double kept = 0;
  auto end = candidates_.end();
  while (end != candidates_.begin()) {
    const double w = weight(candidates_.front());
    if (w < options_.min_p) break;  // the largest weight is 1
    std::pop_heap(candidates_.begin(), end--, worse);
    weights_.push_back(w);
    kept += w;
    if (options_.top_p < 1 && kept >= options_.top_p * sum) break;
  }

  const auto words = Random::philox(index_, sample_, seed_);
  const double u = static_cast<double>((uint64_t{words[0]} << 32 | words[1]) >> 11) * 0x1p-53;
  double below = 0;
  std::size_t rank = 0;
  for (; rank + 1 < weights_.size(); ++rank) {
    below += weights_[rank];
    if (u * kept < below) break;
  }
  return candidates_[candidates_.size() - 1 - rank].id;  // popped elements lie at the back, best last
}

}  // namespace sonde
