// Ctrl-C that ends work cleanly. While an Interrupt lives, the first SIGINT or SIGTERM only sets a flag; a second one
// within it, with the flag still set, ends the program. Outside, they end the program at once, as everywhere.
#pragma once

#include "sonde/result.h"

namespace sonde {

class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  static bool requested();
  static void reset();
};

// What a command ends with then.
inline Error stopped() { return {.code = Code::kCancelled, .what = "stopped"}; }

}  // namespace sonde
