// A model family: one file here and one line in registry.cpp.
#pragma once

#include <string_view>

#include "model/layers.h"

namespace sonde {

struct Family {
  std::string_view model_type;  // of config.json
  // Fills the family's own defaults and refuses what it does not cover.
  Status (*complete)(ModelConfig& config);
  Result<Block> (*load_block)(Loader& loader, int64_t layer, const Rope& rope);
};

// Null: no such family.
const Family* find_family(std::string_view model_type);
std::string family_names();  // "deepseek_v2, deepseek_v3, ...": for errors
// The configuration of a checkpoint that a family covers, completed by it; no weight is looked at.
Result<ModelConfig> read_model_config(const Checkpoint& checkpoint);

// The two kinds of block there are so far.
Result<Block> load_dense_block(Loader& loader, int64_t layer, bool biases, bool head_norms);
Result<Block> load_latent_block(Loader& loader, int64_t layer, const Rope& rope);  // MLA, then MLP or experts

}  // namespace sonde
