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

// Sonde's own keys, for what the others cannot say. Numbers are stored in F32; where that loses digits the double
// stands under this prefix + the key.
inline constexpr std::string_view kExactPrefix = "sonde.exact.";
// "none": tokenizer.json has none, although the pre-tokenizer's name stands for NFC, or BOS is put in front.
inline constexpr const char* kNormalizerKey = "sonde.tokenizer.normalizer";
inline constexpr const char* kPostProcessorKey = "sonde.tokenizer.post_processor";
// rope_scaling of config.json as JSON, where rope_freqs.weight holds the same in F32.
inline constexpr const char* kRopeScalingKey = "sonde.rope_scaling";
// The other way round: in config.json, the factors of a GGUF file's rope_freqs.weight.
inline constexpr const char* kRopeFactorsWord = "sonde_rope_factors";

// The double that was meant by an F32 value: its shortest decimal form. 1e-6 is stored as 9.99999997e-07.
double meant_by(float stored);
// The double that a key of value `stored` stands for.
double gguf_real(const Gguf& file, const std::string& key, double stored);
// general.sampling.* in the words of generation_config.json; null when there is none.
nlohmann::json gguf_generation_config(const Gguf& file);

}  // namespace sonde
