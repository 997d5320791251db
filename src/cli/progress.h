// Progress with the time left, on stderr: on a terminal one line that renews itself, else a line every five seconds.
// Silent where the work ends within a second or two.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace sonde {

class ProgressLine {
 public:
  // `unit` is what `total` counts ("tokens"); "bytes" is shown in KiB ... A total of 0 is unknown: only what is done is
  // shown.
  ProgressLine(std::string label, int64_t total, std::string unit);
  ~ProgressLine() { clear(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void update(int64_t done);
  void clear();  // takes the line off the terminal

 private:
  using Clock = std::chrono::steady_clock;
  std::string label_, unit_;
  int64_t total_, first_ = 0;  // first_: the first amount, behind which the time left is measured
  Clock::time_point start_ = Clock::now(), first_time_, next_;
  bool shown_ = false;
};

// For ModelOptions and EngineOptions: shows how far the weights are loaded, which packs them where they have to be.
std::function<void(int64_t, int64_t)> loading_progress(std::string label = "loading the weights");

}  // namespace sonde
