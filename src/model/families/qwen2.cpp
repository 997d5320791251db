// Qwen2, Qwen2.5, R1-Distill-Qwen: as Llama, with biases on q, k and v.
#include "model/families/family.h"

namespace sonde {
namespace {

Status complete(ModelConfig& c) {
  if (c.is_mla())
    return Error{Code::kInvalid, "this family has no latent attention", "config.json: kv_lora_rank", "", "", ""};
  return {};
}

Result<Block> load_block(Loader& in, int64_t layer, const Rope&) {
  return load_dense_block(in, layer, /*biases=*/true, /*head_norms=*/false);
}

}  // namespace

extern const Family kQwen2;
const Family kQwen2{"qwen2", complete, load_block};

}  // namespace sonde
