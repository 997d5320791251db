// Stop texts: the answer ends before the first of them, wherever the borders of tokens fall. Text that may still become
// one is held back.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sonde {

class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops);  // none empty

  // The text that is certain to belong to the answer now. After a match: nothing more.
  std::string push(std::string_view text);
  // What was held back and turned out to be no stop text.
  std::string finish();
  bool matched() const { return !found_.empty(); }
  const std::string& found() const { return found_; }  // the stop text that ended the answer

 private:
  std::vector<std::string> stops_;
  std::string held_, found_;
};

}  // namespace sonde
