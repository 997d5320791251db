// Qwen3, R1-0528-Qwen3-8B: as Llama, with a norm of every head's q and k.
#include "model/families/family.h"

namespace sonde {
namespace {

Status complete(ModelConfig& c) {
  if (c.is_mla())
    return Error{Code::kInvalid, "this family has no latent attention", "config.json: kv_lora_rank", "", "", ""};
  return {};
}

Result<Block> load_block(Loader& in, int64_t layer, const Rope&) {
  return load_dense_block(in, layer, /*biases=*/false, /*head_norms=*/true);
}

}  // namespace

extern const Family kQwen3;
const Family kQwen3{"qwen3", complete, load_block};

}  // namespace sonde
