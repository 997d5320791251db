// Ranges of the sampling settings, checked before a request is queued.
#pragma once

#include <cstdint>

#include "sonde/result.h"
#include "sonde/sampling.h"

namespace sonde {

// An error names the setting, its range and the value found. NaN is out of every range.
Status validate(const SamplingOptions& options, int64_t vocab_size);

}  // namespace sonde
