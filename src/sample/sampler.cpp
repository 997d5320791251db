#include "sample/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>
#include <utility>

#include "base/random.h"

namespace sonde {

namespace {

constexpr std::size_t kLanes = 16;  // independent sums and maxima, which compilers turn into vectors

float maximum(std::span<const float> x) {
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, x[0]);
  std::size_t i = 0;
  for (; i + kLanes <= x.size(); i += kLanes) {
    for (std::size_t j = 0; j < kLanes; ++j) lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
  }
  float most = *std::max_element(lanes, lanes + kLanes);
  for (; i < x.size(); ++i) most = std::max(most, x[i]);
  return most;
}

// out = exp((x - largest) * factor) within 1e-5 of itself, 0 below exp(-87): 2^n for the whole part of the exponent
// over ln 2, a polynomial for the rest.
void quick_weights(const float* x, std::size_t count, float largest, float factor, float* out) {
  constexpr float kShift = 12582912.f;  // 1.5 * 2^23: what is added to it is rounded to a whole number
  for (std::size_t i = 0; i < count; ++i) {
    const float t = (x[i] - largest) * factor;
    const float shifted = t * std::numbers::log2e_v<float> + kShift, n = shifted - kShift;
    const float f = t - n * std::numbers::ln2_v<float>;
    const float p = 1 + f * (1 + f * (1 / 2.f + f * (1 / 6.f + f * (1 / 24.f + f * (1 / 120.f + f * (1 / 720.f))))));
    const uint32_t power = (std::bit_cast<uint32_t>(shifted) + 127) << 23, inside = -static_cast<uint32_t>(t > -87.f);
    out[i] = std::bit_cast<float>(std::bit_cast<uint32_t>(p * std::bit_cast<float>(power)) & inside);
  }
}

constexpr std::size_t kBlock = 32 * kLanes;
constexpr double kQuickError = 3e-5;               // of quick_weights, and of 32 sums in F32
constexpr double kCoolest = 1e-3, kHottest = 1e3;  // temperatures between which it holds

}  // namespace

int32_t argmax(std::span<const float> logits) {
  const auto at = std::find(logits.begin(), logits.end(), maximum(logits));
  return at == logits.end() ? 0 : static_cast<int32_t>(at - logits.begin());  // NaN equals nothing
}

bool finite(std::span<const float> logits) {
  uint32_t bad = 0;  // an exponent of all ones
  for (const float x : logits) bad |= (std::bit_cast<uint32_t>(x) & 0x7F800000u) == 0x7F800000u ? 1u : 0u;
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

double Sampler::weight(float logit) const { return std::exp((logit - largest_) / options_.temperature); }

namespace {

constexpr auto better = [](const auto& a, const auto& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
};
constexpr auto worse = [](const auto& a, const auto& b) { return better(b, a); };

}  // namespace

// Candidates whose distance from the largest logit is in (beyond, within].
void Sampler::collect(std::span<const float> logits, double beyond, double within) {
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double distance = largest_ - logits[i];
    if (distance <= within && distance > beyond) candidates_.push_back({logits[i], static_cast<int32_t>(i)});
  }
}

// Top-k.
void Sampler::keep_best(std::span<const float> logits) {
  const auto k = static_cast<std::size_t>(options_.top_k);
  candidates_.clear();
  double within = -1;
  for (double next = reach_ / 8; candidates_.size() <= k && within < reach_; next *= 2) {
    const double before = std::exchange(within, std::min(next, reach_));
    collect(logits, before, within);
  }
  if (candidates_.size() <= k && within >= reach_) return;  // fewer than that are left: all
  std::nth_element(candidates_.begin(), candidates_.begin() + options_.top_k, candidates_.end(), better);
  best_.assign(candidates_.begin(), candidates_.begin() + options_.top_k);
  std::sort(best_.begin(), best_.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
}

// The sum of all weights by id: an order that the candidates alone fix.
double Sampler::exact_total(std::span<const float> logits) const {
  double sum = 0;
  if (!best_.empty()) {
    for (const Candidate& c : best_) sum += weight(c.logit);
    return sum;
  }
  for (const float x : logits) {
    if (largest_ - x <= reach_) sum += weight(x);
  }
  return sum;
}

// The same, quickly.
Sampler::Bounds Sampler::total(std::span<const float> logits) const {
  if (!best_.empty() || options_.temperature < kCoolest || options_.temperature > kHottest) {
    const double sum = exact_total(logits);
    return {sum, sum};
  }
  const auto largest = static_cast<float>(largest_), factor = static_cast<float>(1 / options_.temperature);
  double sum = 0;
  for (std::size_t i = 0; i < logits.size(); i += kBlock) {
    const std::size_t n = std::min(kBlock, logits.size() - i);
    float weights[kBlock], lanes[kLanes] = {};
    quick_weights(logits.data() + i, n, largest, factor, weights);
    std::fill(weights + n, weights + kBlock, 0.f);
    for (std::size_t k = 0; k < kBlock; k += kLanes) {
      for (std::size_t j = 0; j < kLanes; ++j) lanes[j] += weights[k + j];
    }
    for (const float lane : lanes) sum += lane;
  }
  return {sum * (1 - kQuickError), sum * (1 + kQuickError)};
}

// Moves the best of the candidates that are left behind those ranked before. They are collected in bands, from the
// largest logit down, as far as they are wanted. False: none is left.
bool Sampler::rank_next(std::span<const float> logits) {
  while (candidates_.empty()) {
    if (seen_ >= reach_) return false;
    const double before = seen_;
    seen_ = std::min(reach_, seen_ < 0 ? reach_ / 8 : 2 * seen_);
    if (best_.empty()) {
      collect(logits, before, seen_);
    } else {
      candidates_ = best_, seen_ = reach_;
    }
    std::make_heap(candidates_.begin(), candidates_.end(), worse);
  }
  ranked_.push_back(candidates_.front().id);
  weights_.push_back(weight(candidates_.front().logit));
  std::pop_heap(candidates_.begin(), candidates_.end(), worse);
  candidates_.pop_back();
  return true;
}

int32_t Sampler::draw(std::span<const float> logits) {
  largest_ = maximum(logits);
  reach_ = 60 * std::numbers::ln2 * options_.temperature;  // 2^-60 and less: left out
  best_.clear();
  if (options_.top_k > 0 && static_cast<std::size_t>(options_.top_k) < logits.size()) keep_best(logits);
  candidates_.clear(), ranked_.clear(), weights_.clear();
  candidates_.reserve(logits.size()), ranked_.reserve(logits.size()), weights_.reserve(logits.size());  // once
  seen_ = -1;

  const auto words = Random::philox(index_, sample_, seed_);
  const double u = static_cast<double>((uint64_t{words[0]} << 32 | words[1]) >> 11) * 0x1p-53;

  // Bounds are summed exactly where they leave a question open.
  if (options_.top_p == 1 && options_.min_p == 0) {
    // The whole distribution: the first token, best first, at which the sum of weights exceeds u times that of all.
    const Bounds all = total(logits);
    double below = 0;
    while (rank_next(logits)) {
      below += weights_.back();
      if (u * all.low >= below) continue;
      if (u * all.high < below) return ranked_.back();
      break;
    }
    while (rank_next(logits)) {}
  } else {
    Bounds all{};
    if (options_.top_p < 1) all = total(logits);
    double kept = 0;
    while (rank_next(logits)) {
      const double w = weights_.back();
      if (w < options_.min_p) {  // the largest weight is 1
        weights_.pop_back(), ranked_.pop_back();
        break;
      }
      kept += w;
      if (options_.top_p == 1 || kept < options_.top_p * all.low) continue;
      if (kept < options_.top_p * all.high) {
        const double sum = exact_total(logits);
        all = {sum, sum};
        if (kept < options_.top_p * sum) continue;
      }
      break;
    }
  }

  double kept = 0, below = 0;
  for (const double w : weights_) kept += w;
  std::size_t rank = 0;
  for (; rank + 1 < weights_.size(); ++rank) {
    below += weights_[rank];
    if (u * kept < below) break;
  }
  return ranked_[rank];
}

}  // namespace sonde
