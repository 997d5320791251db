// How a model's makers want it to be sampled.
#pragma once

#include "files/checkpoint.h"
#include "sonde/sampling.h"
#include "text/dialect.h"

namespace sonde {

// generation_config's temperature, top_p, top_k, min_p and repetition_penalty where it has them ("do_sample": false
// means greedy); what it leaves open: temperature 0.3 for deepseek-v3-0324 (its card), else 0.6 and top_p 0.95 (R1's
// card; also what DeepSeek's own chat uses). Values out of range are passed over. `dialect` may be null.
SamplingOptions default_sampling(const Checkpoint& checkpoint, const Dialect* dialect);

// The same from the text of generation_config alone.
SamplingOptions default_sampling(const nlohmann::json& generation_config, std::string_view dialect);

}  // namespace sonde
