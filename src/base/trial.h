// Trying out what may end the process.
#pragma once

#include <functional>

namespace sonde {

// Calls f in a child process. True: it came back with true. An instruction that the processor refuses, or an access that
// the system does, ends the child alone. False, too, where no child can be had.
bool survives(const std::function<bool()>& f);

}  // namespace sonde
