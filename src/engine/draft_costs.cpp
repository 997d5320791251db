#include "engine/draft_costs.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace sonde {
namespace {

constexpr double kForget = 1024;      // steps after which what was measured counts half
constexpr double kWorthWhile = 1.05;  // gains below this are noise
constexpr int64_t kFreshSamples = 8, kFreshSteps = 48;
constexpr double kDenseRow = 0.2;    // of a step of one row, what a row more costs of dense weights: a guess to try
constexpr double kUnionMemory = 32;  // steps

// By source: of the first token, and of each later one.
constexpr double kFirst[kDraftSources] = {0.15, 0.35, 0.6, 0.8, 0.8};
constexpr double kLater[kDraftSources] = {0.6, 0.65, 0.7, 0.85, 0.7};

double aged(int64_t steps) { return std::exp2(-static_cast<double>(steps) / kForget); }

}  // namespace

DraftSource match_source(int64_t length) {
  return length >= 6   ? DraftSource::kMatch6
         : length >= 3 ? DraftSource::kMatch3
         : length == 2 ? DraftSource::kMatch2
                       : DraftSource::kMatch1;
}

void Duration::add(double seconds) {
  if (samples_ == 0) {
    seconds_ = seconds;
  } else if (!settled()) {
    seconds_ = std::min(seconds_, seconds);
  } else {
    const double change = std::min(seconds, 2 * seconds_) - seconds_;
    seconds_ += change / (change < 0 ? 4 : 16);
  }
  ++samples_;
}

Acceptance::Acceptance(double memory) : weight_(1 / memory) {
  for (std::size_t source = 0; source < kDraftSources; ++source) {
    chance_[source].fill(kLater[source]);
    chance_[source][0] = kFirst[source];
  }
}

void Acceptance::add(DraftSource source, int64_t tried, int64_t accepted) {
  auto& chance = chance_[static_cast<std::size_t>(source)];
  for (int64_t i = 0; i < std::min({tried, accepted + 1, kMostDrafts}); ++i) {
    double& c = chance[static_cast<std::size_t>(i)];
    c += ((i < accepted ? 1.0 : 0.0) - c) * weight_;
  }
  tried_[static_cast<std::size_t>(source)] = steps_;
}

double Acceptance::chance(DraftSource source, int64_t place) const {
  const auto at = static_cast<std::size_t>(source);
  return 1 - (1 - chance_[at][static_cast<std::size_t>(place)]) * aged(steps_ - tried_[at]);
}

std::size_t StepTimes::bucket(int64_t rows) {
  const auto it = std::lower_bound(kRows.begin(), kRows.end(), rows);
  return static_cast<std::size_t>(std::min(it, kRows.end() - 1) - kRows.begin());
}

void StepTimes::add(int64_t rows, double seconds) {
  if (rows > kRows.back()) return;
  seconds_[bucket(rows)].add(seconds);
  measured_[bucket(rows)] = ++steps_;
}

bool StepTimes::fresh(int64_t rows) const {
  const std::size_t b = bucket(rows);
  return seconds_[b].samples() >= kFreshSamples && steps_ - measured_[b] < kFreshSteps;
}

ExpertUnion::ExpertUnion(int64_t experts, int64_t chosen, double share) {
  if (chosen >= experts) return;  // every row reads all
  one_ = static_cast<double>(chosen) / static_cast<double>(experts), share_ = share;
}

void ExpertUnion::add(int64_t rows, double times) {
  if (rows < 2 || share_ == 0) return;
  // That would have read as much.
  const double strangers = std::log1p(-std::min(1.0, times * one_)) / std::log1p(-one_);
  const double part = std::clamp((strangers - 1) / static_cast<double>(rows - 1), 0.0, 1.0);
  stranger_ += (part - stranger_) / kUnionMemory;
}

double ExpertUnion::times(int64_t rows) const {
  return (1 - std::pow(1 - one_, 1 + stranger_ * static_cast<double>(rows - 1))) / one_;
}

// Where a number of rows lies on the line of costs.
double StepTimes::reach(int64_t rows) const {
  return (1 - experts_.share()) * kDenseRow * static_cast<double>(rows) + experts_.share() * experts_.times(rows);
}

double StepTimes::now(std::size_t at) const { return seconds_[at].seconds() * aged(steps_ - measured_[at]); }

double StepTimes::expect(int64_t rows) const {
  const std::size_t wanted = bucket(rows);
  if (seconds_[wanted].settled()) return now(wanted);
  int64_t before = -1, below = -1, above = -1;  // settled ones: the two next smaller, the next larger
  for (std::size_t b = 0; b < kRows.size(); ++b) {
    if (!seconds_[b].settled()) continue;
    if (b < wanted) {
      before = below, below = static_cast<int64_t>(b);
    } else if (above < 0) {
      above = static_cast<int64_t>(b);
    }
  }
  const auto time = [&](int64_t b) { return now(static_cast<std::size_t>(b)); };
  const auto at = [&](int64_t b) { return reach(kRows[static_cast<std::size_t>(b)]); };
  if (below < 0) return above < 0 ? 0 : time(above);
  const double read = 1 - experts_.share() + experts_.share() * experts_.times(kRows[static_cast<std::size_t>(below)]);
  double slope = time(below) / read;
  if (above >= 0) {
    slope = (time(above) - time(below)) / (at(above) - at(below));
  } else if (before >= 0) {
    slope = std::max(0.0, (time(below) - time(before)) / (at(below) - at(before)));
  }
  return time(below) + slope * (reach(kRows[wanted]) - at(below));
}

void DraftAccount::judge(double plain) {
  if (!open()) balance_ = 0;
  if (!open() || plain <= 0) return;
  if (balance_ > 2 * most_lost_ * plain) balance_ = 0, pause_ = first_pause_;
  if (balance_ >= -most_lost_ * plain) return;
  balance_ = 0;
  until_ = steps_ + std::exchange(pause_, std::min(2 * pause_, longest_pause_));
  ++trial_;
}

std::span<const int64_t> DraftChoice::best(const StepTimes& times, int64_t answers, std::span<const DraftOffer> offers) {
  std::vector<More>& more = more_;
  more.clear();
  for (std::size_t i = 0; i < offers.size(); ++i)
    for (double gain : offers[i].gains) more.push_back({gain, i, more.size()});
  std::sort(more.begin(), more.end(), [](const More& a, const More& b) { return a.gain > b.gain || (a.gain == b.gain && a.place < b.place); });
  double tokens = static_cast<double>(answers), cost = 0;
  double best = kWorthWhile * tokens / times.expect(answers);
  std::size_t taken = 0;
  more.resize(std::min(more.size(), static_cast<std::size_t>(kMostDrafts)));
  for (std::size_t i = 0; i < more.size(); ++i) {
    tokens += more[i].gain;
    cost += offers[more[i].offer].seconds;
    const double rate = tokens / (times.expect(answers + static_cast<int64_t>(i) + 1) + cost);
    if (rate > best) best = rate, taken = i + 1;
  }
  drafts_.assign(offers.size(), 0);
  for (std::size_t i = 0; i < taken; ++i) ++drafts_[more[i].offer];
  return drafts_;
}

}  // namespace sonde
