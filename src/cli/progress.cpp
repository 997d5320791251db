#include "cli/progress.h"

#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <utility>

#include "cli/output.h"

namespace sonde {

ProgressLine::ProgressLine(std::string label, int64_t total, std::string unit)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      next_(start_ + std::chrono::seconds(stderr_is_terminal() ? 1 : 2)) {}

void ProgressLine::update(int64_t done) {
  const Clock::time_point now = Clock::now();
  // What was done when the work began, or while it waited for its turn, tells nothing of its pace.
  if (first_ == 0 && done > 0) first_ = done, first_time_ = now;
  if (now < next_) return;
  const bool terminal = stderr_is_terminal();
  next_ = now + (terminal ? std::chrono::milliseconds(200) : std::chrono::milliseconds(5000));

  const auto since = [&](Clock::time_point start) { return std::chrono::duration<double>(now - start).count(); };
  const bool bytes = unit_ == "bytes";
  const auto amount = [&](int64_t n) { return bytes ? bytes_text(static_cast<double>(n)) : std::to_string(n); };
  const std::string unit = bytes ? "" : " " + unit_;
  std::string line = label_ + ": ";
  if (total_ > 0) {
    line += fmt::format("{:.0f} %, {} of {}", 100.0 * static_cast<double>(done) / static_cast<double>(total_),
                        amount(done), amount(total_)) +
            unit;
    if (done > first_ && done <= total_) {
      const double rate = static_cast<double>(done - first_) / since(first_time_);
      line += ", " + seconds_text(static_cast<double>(total_ - done) / rate) + " left";
    }
  } else {
    line += amount(done) + unit + ", " + seconds_text(since(start_));
  }
  if (terminal)
    std::fprintf(stderr, "\r\033[K%s", line.c_str());
  else
    std::fprintf(stderr, "sonde: %s\n", line.c_str());
  std::fflush(stderr);
  shown_ = true;
}

std::function<void(int64_t, int64_t)> loading_progress(std::string label) {
  return [label = std::move(label), line = std::shared_ptr<ProgressLine>()](int64_t done, int64_t total) mutable {
    if (!line) line = std::make_shared<ProgressLine>(label, total, "bytes");
    line->update(done);
    if (done >= total) line->clear();
  };
}

void ProgressLine::clear() {
  if (shown_ && stderr_is_terminal()) std::fputs("\r\033[K", stderr);
  shown_ = false;
}

}  // namespace sonde
