// Lines from a person: edited, with a history, on a terminal; plain from anything else.
#pragma once

#include <memory>
#include <string>

namespace sonde {

class LineEditor {
 public:
  explicit LineEditor(const std::string& prompt);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  enum class Got { kLine, kStopped, kEnd };
  // A line without its end; Ctrl-C gives kStopped and throws away what was typed, Ctrl-D on an empty line kEnd.
  Got next(std::string& line);
  bool interactive() const;

  struct State;

 private:
  std::unique_ptr<State> state_;
};

}  // namespace sonde
