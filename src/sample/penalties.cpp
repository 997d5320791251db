#include "sample/penalties.h"

#include <algorithm>
#include <limits>

namespace sonde {
namespace {

// However large the factor: a logit stays a number that can be compared.
float finite(double x) {
  constexpr double kMost = std::numeric_limits<float>::max();
  return static_cast<float>(std::clamp(x, -kMost, kMost));
}

}  // namespace

Penalties::Penalties(const SamplingOptions& options, std::span<const int32_t> prompt)
    : active_(options.repetition_penalty != 1.0 || options.presence_penalty != 0.0 ||
              options.frequency_penalty != 0.0 || !options.logit_bias.empty()),
      repetition_(options.repetition_penalty),
      presence_(options.presence_penalty),
      frequency_(options.frequency_penalty),
      bias_(options.logit_bias) {
  if (repetition_ == 1.0) return;
  seen_.assign(prompt.begin(), prompt.end());
  std::sort(seen_.begin(), seen_.end());
  seen_.erase(std::unique(seen_.begin(), seen_.end()), seen_.end());
}

void Penalties::add(int32_t id) {
  if (!active_) return;
  if (repetition_ != 1.0) {
    const auto at = std::lower_bound(seen_.begin(), seen_.end(), id);
    if (at == seen_.end() || *at != id) seen_.insert(at, id);
  }
  auto at = std::lower_bound(answer_.begin(), answer_.end(), std::pair<int32_t, int64_t>(id, 0));
  if (at == answer_.end() || at->first != id) at = answer_.insert(at, {id, 0});
  ++at->second;
}

void Penalties::apply(std::span<float> logits) const {
  if (!active_) return;
  const auto inside = [&](int32_t id) { return id >= 0 && static_cast<std::size_t>(id) < logits.size(); };
  for (const auto& [id, bias] : bias_) {
    if (inside(id)) logits[id] = finite(logits[id] + bias);
  }
  for (int32_t id : seen_) {
    if (!inside(id)) continue;
    const double x = logits[id];
    logits[id] = finite(x > 0 ? x / repetition_ : x * repetition_);
  }
  if (presence_ == 0.0 && frequency_ == 0.0) return;
  for (const auto& [id, count] : answer_) {
    if (inside(id)) logits[id] = finite(logits[id] - presence_ - frequency_ * static_cast<double>(count));
  }
}

}  // namespace sonde
