// Where the program finds what belongs to it.
#pragma once

#include <string>

namespace sonde {

// The folder of the embedded model: share/sonde/models/mini beside an installed program, models/mini above a program in
// the source tree; "" where there is neither.
std::string embedded_model();
// The same for a program at `executable` (a test's way in).
std::string embedded_model_for(const std::string& executable);

// Where files go that can be made again: $SONDE_CACHE if it is set (empty: nowhere), else $XDG_CACHE_HOME/sonde, else
// ~/.cache/sonde; "" where none of them is known.
std::string cache_folder();

}  // namespace sonde
