// The names that GGUF files give to pre-tokenizers, and what tokenizer.json writes for each.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "sonde/result.h"

namespace sonde {

// The name of a byte-level tokenizer.json ("deepseek-v3", "llama-bpe" ...), found by its split patterns. `distilled`
// tells deepseek-r1-qwen from qwen2, which split alike. Unknown patterns are an error.
Result<std::string> pre_tokenizer_name(const nlohmann::json& tokenizer, bool distilled, const std::string& where);

// Does the name also say that text is brought into NFC first?
bool stands_for_nfc(std::string_view name);

// Fills in "pre_tokenizer", "normalizer" and the model's "ignore_merges" for a name; an unknown name is an error.
Status set_pre_tokenizer(nlohmann::json& tokenizer, std::string_view name, const std::string& where);

}  // namespace sonde
