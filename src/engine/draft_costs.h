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

// What a repeated piece of work takes, where other programs disturb the clock: the least of the first three times (the
// first finds cold caches), then a running mean that follows shorter times faster than longer ones.
class Duration {
 public:
  void add(double seconds);
  bool settled() const { return samples_ >= 3; }
  int64_t samples() const { return samples_; }
  double seconds() const { return seconds_; }

 private:
  double seconds_ = 0;
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

// What a step of several rows reads of a model's weights, where one row alone reads 1: the dense ones once, and of its
// mixtures' experts the union of what the rows choose. Of n experts, k a row, strangers would choose
// n (1 - (1 - k / n)^rows) between them; rows of one text choose alike, as if each row more were part of a stranger.
// That part is measured.
class ExpertUnion {
 public:
  ExpertUnion() = default;  // a dense model
  // `share`: of the bytes that a row reads, those of the experts that it chooses.
  ExpertUnion(int64_t experts, int64_t chosen, double share);

  // A step of `rows` read so many times the experts of one row.
  void add(int64_t rows, double times);
  double times(int64_t rows) const;  // of one row's experts, in expectation
  double share() const { return share_; }

 private:
  double one_ = 1;  // k / n
  double share_ = 0;
  double stranger_ = 1;  // the part of a stranger that a row more is
};

// Seconds of a step by the number of its rows: settled for some numbers; between and behind them they grow as what rows
// cost is expected to: in a dense model a straight line, in a mixture bent by the union of experts. Old values become
// cheaper, as above.
class StepTimes {
 public:
  explicit StepTimes(ExpertUnion experts = {}) : experts_(experts) {}

  void add(int64_t rows, double seconds);
  // What the step read: ExpertUnion::add.
  void read(int64_t rows, double times) { experts_.add(rows, times); }
  // Measured often and lately enough to compare others with.
  bool fresh(int64_t rows) const;
  double expect(int64_t rows) const;  // 0: nothing is settled yet

 private:
  static constexpr std::array<int64_t, 12> kRows = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64};
  static std::size_t bucket(int64_t rows);
  double now(std::size_t bucket) const;
  double reach(int64_t rows) const;

  ExpertUnion experts_;
  std::array<Duration, kRows.size()> seconds_;
  std::array<int64_t, kRows.size()> measured_{};  // at which step
  int64_t steps_ = 0;
};

// Whether a kind of drafts pays, by what it has saved and what it has cost, in seconds: the MTP layer's records and
// drafts, the rows that drafts add to steps. When it has lost the time of a few steps it pauses, longer each time until
// it has won as much.
class DraftAccount {
 public:
  // most_lost: steps without drafts; pauses: steps.
  DraftAccount(double most_lost, int64_t first_pause, int64_t longest_pause)
      : most_lost_(most_lost), first_pause_(first_pause), longest_pause_(longest_pause), pause_(first_pause) {}

  bool open() const { return steps_ >= until_; }
  int64_t trial() const { return trial_; }  // 1, and one more after each pause that began
  void step() { ++steps_; }
  void add(double saved, double cost) { balance_ += saved - cost; }
  // After each step; `plain`: seconds of one without drafts. May begin a pause.
  void judge(double plain);

 private:
  double most_lost_;
  int64_t first_pause_, longest_pause_, pause_;
  double balance_ = 0;
  int64_t steps_ = 0, until_ = 0, trial_ = 1;
};

// What an answer could have drafted: gains[i] is the chance that drafts 0 ... i are all right.
struct DraftOffer {
  std::vector<double> gains;
  double seconds = 0;  // that one draft costs beside the step
};
class DraftChoice {
 public:
  // Drafts for each offer that give the most tokens a second, kMostDrafts in all; `answers` rows are computed without
  // any. Valid until the next call, which uses their memory again.
  std::span<const int64_t> best(const StepTimes& times, int64_t answers, std::span<const DraftOffer> offers);

 private:
  struct More {
    double gain;
    std::size_t offer, place;
  };
  std::vector<More> more_;
  std::vector<int64_t> drafts_;
};

}  // namespace sonde
