// Llama 2 and 3, R1-Distill-Llama, SmolLM2: grouped-query attention and a gated MLP.
#include "model/families/family.h"

namespace sonde {
namespace {

Status complete(ModelConfig& c) {
  if (c.is_mla())
    return Error{Code::kInvalid, "this family has no latent attention", "config.json: kv_lora_rank", "", "", ""};
  return {};
}

Result<Block> load_block(Loader& in, int64_t layer, const Rope&) {
  return load_dense_block(in, layer, /*biases=*/false, /*head_norms=*/false);
}

}  // namespace

extern const Family kLlama;
const Family kLlama{"llama", complete, load_block};

}  // namespace sonde
