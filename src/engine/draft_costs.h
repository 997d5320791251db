// What decides how many tokens are drafted: how often drafts are right, and what a step costs by its rows.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace sonde {

inline constexpr int64_t kMostDrafts = 15;  // for one answer in one step

// Where a draft comes from; matches of prompt lookup by their length in tokens.
enum class DraftSource { kMatch1, kMatch2, kMatch3, kMatch6, kMtp };
inline constexpr int64_t kDraftSources = 5;
DraftSource match_source(int64_t length);

// A running mean of the last few values.
class Running {
 public:
  // The first values tell of cold caches: the least of three. Later ones count up to twice the mean, so that a
  // neighbour's burst does not.
  void add(double value);
  double mean() const { return mean_; }
  int64_t samples() const { return samples_; }

 private:
  double mean_ = 0;
  int64_t samples_ = 0;
};

// Chances, by source and place in the draft, that a token is right where those before it were. What has not been tried
// for some hundreds of steps is believed to have become better, so that it is tried again.
class Acceptance {
 public:
  // `memory`: values that a mean looks back on.
  explicit Acceptance(double memory);
  void remember(double memory) { weight_ = 1 / memory; }
  void step() { ++steps_; }
  void add(DraftSource source, int64_t tried, int64_t accepted);
  double chance(DraftSource source, int64_t place) const;

 private:
  double weight_;
  int64_t steps_ = 0;
  std::array<std::array<double, kMostDrafts>, kDraftSources> chance_;
  std::array<int64_t, kDraftSources> tried_{};  // at which step
};

// Seconds of a step by the number of its rows: measured for some numbers, between them a straight line. An MoE model's
// rows read the union of their experts, so a row more is not free. Old values become cheaper, as above.
class StepTimes {
 public:
  void add(int64_t rows, double seconds);
  bool settled(int64_t rows) const;
  double expect(int64_t rows) const;  // 0: nothing was measured yet

 private:
  static constexpr std::array<int64_t, 12> kRows = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64};
  static std::size_t bucket(int64_t rows);
  double now(std::size_t bucket) const;

  std::array<Running, kRows.size()> seconds_;
  std::array<int64_t, kRows.size()> measured_{};  // at which step
  int64_t steps_ = 0;
};

// What an answer could have drafted: gains[i] is the chance that drafts 0 ... i are all right.
struct DraftOffer {
  std::vector<double> gains;
  double seconds = 0;  // that one draft costs beside the step
};
// Drafts for each offer that give the most tokens a second; `answers` rows are computed without any.
std::vector<int64_t> best_drafts(const StepTimes& times, int64_t answers, std::span<const DraftOffer> offers);

}  // namespace sonde
