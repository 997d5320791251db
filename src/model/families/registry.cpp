#include <nlohmann/json.hpp>

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

Result<ModelConfig> read_model_config(const Checkpoint& checkpoint) {
  // The family first: another one's configuration need not have the keys that these have.
  const nlohmann::json& json = checkpoint.config();
  const auto type = json.is_object() ? json.find("model_type") : json.end();
  if (type != json.end() && type->is_string() && !find_family(type->get_ref<const std::string&>()))
    return Error{
        Code::kUnsupported,       "unknown model family",
        checkpoint.path(),        family_names(),
        type->get<std::string>(), "model_type of config.json or general.architecture of the GGUF file names it"};
  SONDE_TRY(ModelConfig config, ModelConfig::from_json(json));
  const Family* family = find_family(config.model_type);
  if (!family)
    return Error{
        Code::kUnsupported, "config.json names no model_type", checkpoint.path(), family_names(), "nothing", ""};
  SONDE_CHECK(family->complete(config));
  return config;
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
