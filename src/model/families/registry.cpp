#include "model/families/family.h"

namespace sonde {

extern const Family kDeepseekV2, kDeepseekV3, kLlama, kQwen2, kQwen3;

namespace {
const Family* const kFamilies[] = {
    &kDeepseekV2, &kDeepseekV3, &kLlama, &kQwen2, &kQwen3,
};
}  // namespace

const Family* find_family(std::string_view model_type) {
  for (const Family* family : kFamilies)
    if (family->model_type == model_type) return family;
  return nullptr;
}

std::string family_names() {
  std::string names;
  for (const Family* family : kFamilies) names += (names.empty() ? "" : ", ") + std::string(family->model_type);
  return names;
}

namespace {
Result<Block> load_norms(Loader& in, int64_t layer) {
  Block block;
  SONDE_TRY(block.input_layernorm, in.vector(layer_name(layer, "input_layernorm.weight"), in.config().hidden_size));
  SONDE_TRY(block.post_attention_layernorm,
            in.vector(layer_name(layer, "post_attention_layernorm.weight"), in.config().hidden_size));
  return block;
}
}  // namespace

Result<Block> load_dense_block(Loader& in, int64_t layer, bool biases, bool head_norms) {
  SONDE_TRY(Block block, load_norms(in, layer));
  SONDE_TRY(block.attention, load_gqa(in, layer, biases, head_norms));
  SONDE_TRY(block.feed_forward, load_mlp(in, layer_name(layer, "mlp."), in.config().intermediate_size));
  return block;
}

Result<Block> load_latent_block(Loader& in, int64_t layer, const Rope& rope) {
  SONDE_TRY(Block block, load_norms(in, layer));
  SONDE_TRY(block.attention, load_mla(in, layer, rope.score_factor));
  if (in.config().is_moe_layer(layer)) {
    SONDE_TRY(block.feed_forward, load_moe(in, layer));
  } else {
    SONDE_TRY(block.feed_forward, load_mlp(in, layer_name(layer, "mlp."), in.config().intermediate_size));
  }
  return block;
}

}  // namespace sonde
