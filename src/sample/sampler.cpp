#include "sample/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "base/random.h"

namespace sonde {

namespace {

constexpr double kCoolest = 1e-3, kHottest = 1e3;  // temperatures between which totals of blocks hold
constexpr double kTotalError = 1.5 * kSummaryError;  // and of what is left out beyond reach_

float largest_of(std::span<const float> x) { return largest(x.data(), std::ssize(x)); }
// As first_at_least(), from `from` on.
std::size_t next_at_least(std::span<const float> x, std::size_t from, float least) {
  return from + static_cast<std::size_t>(first_at_least(x.data() + from, std::ssize(x) - std::ptrdiff_t(from), least));
}

// Totals decide unless min-p alone does.
float factor_of(const SamplingOptions& o) {
  const bool asked = o.temperature >= kCoolest && o.temperature <= kHottest && (o.top_p < 1 || o.min_p == 0);
  return asked ? static_cast<float>(1 / o.temperature) : 0;
}

}  // namespace

int32_t argmax(const SummarisedRow& logits) {
  const bool known = !logits.most.empty();
  const float best = largest_of(known ? logits.most : logits.x);
  const std::size_t from = known ? next_at_least(logits.most, 0, best) * kSummaryBlock : 0, n = logits.x.size();
  const std::size_t at = from < n ? next_at_least(logits.x, from, best) : n;
  return at < n ? static_cast<int32_t>(at) : 0;  // there may be nothing but NaN
}

bool finite(const SummarisedRow& logits) {
  const std::span<const float> tell = logits.most.empty() ? logits.x : logits.most;
  return all_finite(tell.data(), std::ssize(tell));
}

Sampler::Sampler(const SamplingOptions& options, uint64_t seed, uint64_t sample, std::span<const int32_t> prompt)
    : options_(options), seed_(seed), sample_(sample), penalties_(options, prompt), factor_(factor_of(options)) {}

int32_t Sampler::choose(SummarisedRow logits) {
  if (penalties_.active()) {
    changed_.assign(logits.x.begin(), logits.x.end());
    penalties_.apply(changed_);
    logits = {changed_};
  }
  if (logits.most.empty()) logits = summarised(logits.x);
  return options_.temperature == 0 ? argmax(logits) : draw(logits);
}

SummarisedRow Sampler::summarised(std::span<const float> logits) {
  const auto blocks = static_cast<std::size_t>(summary_blocks(std::ssize(logits)));
  most_.resize(blocks), sums_.resize(blocks);
  summarise(logits.data(), std::ssize(logits), factor_, most_.data(), sums_.data());
  return {logits, most_, sums_};
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

// f(logit, id) for the logits of all blocks that hold one no farther than `within` from the largest, by id.
template <class F>
void Sampler::each_within(const SummarisedRow& logits, double within, F&& f) const {
  // Rounded down, so that no block is left out.
  const double least = std::max(largest_ - within, double{std::numeric_limits<float>::lowest()});
  const float bound = std::nextafter(static_cast<float>(least), -std::numeric_limits<float>::infinity());
  const std::size_t blocks = logits.most.size();
  for (std::size_t b = 0; (b = next_at_least(logits.most, b, bound)) < blocks; ++b) {
    const std::size_t end = std::min(logits.x.size(), (b + 1) * kSummaryBlock);
    for (std::size_t i = b * kSummaryBlock; i < end; ++i) f(logits.x[i], static_cast<int32_t>(i));
  }
}

// Candidates whose distance from the largest logit is in (beyond, within].
void Sampler::collect(const SummarisedRow& logits, double beyond, double within) {
  each_within(logits, within, [&](float logit, int32_t id) {
    const double distance = largest_ - logit;
    if (distance <= within && distance > beyond) candidates_.push_back({logit, id});
  });
}

// Top-k.
void Sampler::keep_best(const SummarisedRow& logits) {
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
double Sampler::exact_total(const SummarisedRow& logits) const {
  double sum = 0;
  if (!best_.empty()) {
    for (const Candidate& c : best_) sum += weight(c.logit);
    return sum;
  }
  each_within(logits, reach_, [&](float logit, int32_t) {
    if (largest_ - logit <= reach_) sum += weight(logit);
  });
  return sum;
}

// The same, quickly.
Sampler::Bounds Sampler::total(const SummarisedRow& logits) const {
  if (!best_.empty() || factor_ == 0) {
    const double sum = exact_total(logits);
    return {sum, sum};
  }
  const double sum = joined_total(logits.most.data(), logits.total.data(), std::ssize(logits.most),
                                  static_cast<float>(largest_), factor_);
  return {sum * (1 - kTotalError), sum * (1 + kTotalError)};
}

// Moves the best of the candidates that are left behind those ranked before. They are collected in bands, from the
// largest logit down, as far as they are wanted. False: none is left.
bool Sampler::rank_next(const SummarisedRow& logits) {
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

int32_t Sampler::draw(const SummarisedRow& logits) {
  largest_ = largest_of(logits.most);
  reach_ = 60 * std::numbers::ln2 * options_.temperature;  // 2^-60 and less: left out
  best_.clear();
  if (options_.top_k > 0 && static_cast<std::size_t>(options_.top_k) < logits.x.size()) keep_best(logits);
  candidates_.clear(), ranked_.clear(), weights_.clear();
  candidates_.reserve(logits.x.size()), ranked_.reserve(logits.x.size()), weights_.reserve(logits.x.size());  // once
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
