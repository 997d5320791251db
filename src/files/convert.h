// Lossless conversion between the two published forms. What the other form cannot say is an error.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "files/checkpoint.h"
#include "sonde/result.h"

namespace sonde {

using Progress = std::function<bool(int64_t done, int64_t total)>;  // bytes of tensors; false: stop; may be empty

// One GGUF file of F32, F16 and BF16 tensors, as llama.cpp's converter names, shapes and orders them.
Status convert_to_gguf(const Checkpoint& checkpoint, const std::string& path, const Progress& progress = {});
// A Hugging Face folder: config.json, safetensors (in shards of at most 5 GB), tokenizer.json and what goes with it.
Status convert_to_hf(const Checkpoint& checkpoint, const std::string& folder, const Progress& progress = {});

}  // namespace sonde
