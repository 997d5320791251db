// What the metadata of a GGUF file means in the words of config.json, and its vocabulary.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "files/checkpoint.h"
#include "files/gguf.h"
#include "sonde/result.h"

namespace sonde {

// config.json as published for the architectures deepseek2, llama, qwen2 and qwen3. A file without tensors may lack
// keys, or have another architecture (then null); elsewhere both are errors.
Result<nlohmann::json> gguf_config(const Gguf& file, const std::string& where);

// tokenizer.ggml.*; nothing when the file has no tokens.
Result<std::optional<GgufVocabulary>> gguf_vocabulary(const Gguf& file, const std::string& where);

// "Q4_K_M" for a number of general.file_type; "" when unknown.
std::string_view gguf_file_type(int64_t number);

}  // namespace sonde
