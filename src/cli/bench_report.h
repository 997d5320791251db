// What `sonde bench` says of a measurement.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "cli/bench.h"
#include "kernels/peaks.h"

namespace sonde {

// Shares are of what the machine gave right before and right after the measurement, on average.
void print_heading();
void print_row(const Measurement& m);
double peak_of(const Peaks& peaks, Profile::Arithmetic arithmetic);  // 10^9 operations a second
std::string_view name_of(Profile::Arithmetic arithmetic);            // "fp32", "bf16", "int8"
nlohmann::ordered_json to_json(const Measurement& m);

}  // namespace sonde
