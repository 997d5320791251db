// Tensors of GGUF files as the published checkpoints have them.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "files/gguf.h"
#include "sonde/result.h"

namespace sonde {

// Adds the file's tensors to `out` under their Hugging Face names: stacked experts apart, split MLA in three
// dimensions.
Status add_gguf_tensors(const Gguf& file, const nlohmann::json& config, const std::string& where,
                        std::map<std::string, Tensor, std::less<>>& out);

// Opens `path` and, when it is the first of several ("...-00001-of-00005.gguf"), the others after it. Their metadata
// agree.
Result<std::vector<Gguf>> open_gguf_set(const std::string& path);

}  // namespace sonde
