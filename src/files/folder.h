// The small texts beside the weights of a Hugging Face folder.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sonde/result.h"

namespace sonde {

// Adds the ids of "eos_token_id" (a number or a list) that are not there yet. Anything else adds nothing.
void add_end_tokens(const nlohmann::json& config, std::vector<int32_t>& ids);

struct TokenizerConfig {
  std::string chat_template;    // the one named "default" where there are several; else the first
  std::optional<bool> add_bos;  // add_bos_token
};
Result<TokenizerConfig> parse_tokenizer_config(std::string_view text, const std::string& where);

// Sides of the FP8 blocks that a scale belongs to: quantization_config.weight_block_size, 128 when absent.
Result<int64_t> scale_block(const nlohmann::json& config, const std::string& where);

}  // namespace sonde
