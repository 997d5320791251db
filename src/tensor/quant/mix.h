// Mixes of types, as llama.cpp's quantiser deals them out: which type each tensor of a GGUF file gets.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "tensor/types.h"

namespace sonde {

struct Mix {
  std::string_view name;  // "Q4_K_M"
  int file_type;          // general.file_type
  std::string_view base;  // what most matrices get
};

struct MixTensor {
  std::string_view name;  // as GGUF spells it: "blk.3.ffn_down.weight"
  int64_t dims, cols;     // cols: the innermost dimension
  int64_t layers;         // of the model
  bool tied;              // the embedding is the output matrix too
  // Of the model: routed experts (0: none), and query heads that share a key head (in files that keep latent keys and
  // values apart by heads, all of them: the latent is the one key).
  int64_t experts = 0, queries_per_key = 1;
};

std::span<const Mix> all_mixes();
const Mix* mix_by_name(std::string_view name);  // null: unknown
const Type& type_in_mix(const Mix& mix, const MixTensor& tensor);

}  // namespace sonde
