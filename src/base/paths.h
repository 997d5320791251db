// Where the program finds what belongs to it.
#pragma once

#include <string>

namespace sonde {

// The folder of the embedded model: share/sonde/models/mini beside an installed program, models/mini above a program in
// the source tree; "" where there is neither.
std::string embedded_model();
// The same for a program at `executable` (a test's way in).
std::string embedded_model_for(const std::string& executable);

}  // namespace sonde
