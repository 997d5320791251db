#include "sample/logprobs.h"

#include <algorithm>
#include <cmath>

#include "sample/sampler.h"

namespace sonde {

double log_sum_exp(std::span<const float> logits) {
  const double largest = logits[argmax(logits)];
  double sum = 0;
  for (float x : logits) sum += std::exp(x - largest);
  return largest + std::log(sum);
}

Logprobs logprobs(std::span<const float> logits, int32_t chosen, int count) {
  const double total = log_sum_exp(logits);
  const auto entry = [&](int32_t id) { return TokenLogprob{id, static_cast<float>(logits[id] - total)}; };
  const auto better = [&](int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; };

  std::vector<int32_t> best;  // kept sorted; count is small
  const std::size_t wanted = std::clamp(count, 0, kMostLogprobs);
  for (int32_t id = 0; wanted > 0 && id < static_cast<int32_t>(logits.size()); ++id) {
    if (best.size() == wanted && !better(id, best.back())) continue;
    best.insert(std::upper_bound(best.begin(), best.end(), id, better), id);
    if (best.size() > wanted) best.pop_back();
  }
  Logprobs out{entry(chosen), {}};
  for (int32_t id : best) out.top.push_back(entry(id));
  return out;
}

}  // namespace sonde
