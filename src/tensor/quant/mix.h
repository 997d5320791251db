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
  bool more;              // some tensors of some layers get a better type
};

struct MixTensor {
  std::string_view name;  // as GGUF spells it: "blk.3.ffn_down.weight"
  int64_t dims, cols;     // cols: the innermost dimension
  int64_t layers;         // of the model
  bool tied;              // the embedding is the output matrix too
};

std::span<const Mix> all_mixes();
const Mix* mix_by_name(std::string_view name);  // null: unknown
const Type& type_in_mix(const Mix& mix, const MixTensor& tensor);

}  // namespace sonde
