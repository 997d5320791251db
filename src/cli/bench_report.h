// What `sonde bench` says of a measurement.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "cli/bench.h"
#include "kernels/peaks.h"

namespace sonde {

// `in_integers`: the share of the int8 peak is shown, else that of the FMA peak.
void print_heading(bool in_integers);
void print_row(const Measurement& m, const Peaks& peaks, bool in_integers);
nlohmann::ordered_json to_json(const Measurement& m, const Peaks& peaks);

}  // namespace sonde
