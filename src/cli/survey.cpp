#include "cli/survey.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>

namespace sonde {
namespace {

// Layer of "model.layers.N. ..." or "layers.N. ..."; -1 for what stands outside the layers.
int64_t layer_of(std::string_view name) {
  if (name.starts_with("model.")) name.remove_prefix(6);
  constexpr std::string_view kPrefix = "layers.";
  if (!name.starts_with(kPrefix)) return -1;
  name.remove_prefix(kPrefix.size());
  int64_t layer = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
  return error == std::errc() && end != name.data() + name.size() && *end == '.' ? layer : -1;
}

// What counting needs to know; of a family that cannot run (null `config`), as far as its config.json says it.
struct Shape {
  int64_t layers = INT64_MAX, experts = 0, chosen = 0;
  bool tied = false;
};

Shape shape_of(const Checkpoint& checkpoint, const ModelConfig* config) {
  if (config)
    return {config->num_hidden_layers, config->n_routed_experts, config->num_experts_per_tok,
            config->tie_word_embeddings};
  const nlohmann::json& json = checkpoint.config();
  const auto number = [&](const char* key, int64_t otherwise) {
    const auto at = json.is_object() ? json.find(key) : json.end();
    return at != json.end() && at->is_number_integer() && at->get<int64_t>() > 0 ? at->get<int64_t>() : otherwise;
  };
  Shape shape{number("num_hidden_layers", INT64_MAX), number("n_routed_experts", 0), number("num_experts_per_tok", 0)};
  if (shape.chosen > shape.experts) shape.chosen = shape.experts;
  return shape;
}

// Parameters that a tensor holds: none in tables and scales, two in a byte of FP4.
int64_t parameters_of(const Checkpoint& checkpoint, std::string_view name, const Tensor& tensor, bool scale) {
  const std::string_view type = tensor.type->name;
  if (scale || type == "I32" || type == "I64" || name == "rope_freqs.weight" || name.ends_with(".rotary_emb.inv_freq"))
    return 0;
  if (type == "I8" && name.ends_with(".weight")) {
    const Tensor* scales = checkpoint.find(std::string(name.substr(0, name.size() - 6)) + "scale");
    if (scales && scales->type->name == "F8_E8M0") return 2 * tensor.count();
  }
  return tensor.count();
}

// Scales of an FP8 weight; they are read with it, but are no parameters.
bool is_scale(const Checkpoint& checkpoint, std::string_view name) {
  if (name.ends_with(".weight_scale_inv")) return true;
  constexpr std::string_view kScale = ".scale";
  return name.ends_with(kScale) &&
         checkpoint.find(std::string(name.substr(0, name.size() - kScale.size())) + ".weight") != nullptr;
}

}  // namespace

double Survey::step_bytes(const ModelConfig& config, int64_t batch) const {
  if (config.n_routed_experts == 0) return static_cast<double>(work.bytes);
  const double one = static_cast<double>(config.num_experts_per_tok) / static_cast<double>(config.n_routed_experts);
  const double chosen = 1 - std::pow(1 - one, static_cast<double>(batch));
  return static_cast<double>(work.bytes) + (chosen - one) * static_cast<double>(expert_bytes);
}

Survey survey(const Checkpoint& checkpoint, const ModelConfig* config, const ModelOptions& options) {
  Survey s;
  double active = 0, read_bytes = 0, weights = 0;
  bool scaled_latent = false;  // the latent's up-projection is in FP8
  const Shape shape = shape_of(checkpoint, config);
  const bool tied = shape.tied || (!checkpoint.find("lm_head.weight") && !checkpoint.find("head.weight"));
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    const auto bytes = static_cast<int64_t>(tensor.bytes.size());
    Survey::Sum& sum = s.types[std::string(tensor.type->name)];
    ++sum.tensors, sum.bytes += bytes;
    ++s.tensors, s.bytes += bytes;

    const bool scale = is_scale(checkpoint, name);
    const int64_t count = parameters_of(checkpoint, name, tensor, scale);
    if (layer_of(name) >= shape.layers || name.starts_with("mtp.")) {
      s.mtp_parameters += count;
      continue;
    }
    if (scale && name.find("kv_b_proj") != std::string::npos) scaled_latent = true;
    double share = 1;
    if (name == "lm_head.weight" && tied) {
      s.parameters += count;  // stored, but never read
      continue;
    }
    if (name == "model.embed_tokens.weight" || name == "embed.weight")
      share = (tied ? 1.0 : 0.0) + (tensor.dim(0) > 0 ? 1.0 / static_cast<double>(tensor.dim(0)) : 0.0);
    else if (shape.experts > 0 &&
             (name.find(".mlp.experts.") != std::string::npos || name.find(".ffn.experts.") != std::string::npos)) {
      share = static_cast<double>(shape.chosen) / static_cast<double>(shape.experts);
      s.expert_bytes += bytes;
    }
    s.parameters += count;
    active += share * static_cast<double>(count);
    read_bytes += share * static_cast<double>(bytes);
    if (tensor.shape.size() > 1) weights += share * static_cast<double>(count);
  }
  s.active_parameters = std::min(s.parameters, static_cast<int64_t>(active));  // a tied row counts once
  s.work = {static_cast<int64_t>(read_bytes), static_cast<int64_t>(weights)};

  if (config) {
    const ModelConfig& c = *config;
    const bool mtp = s.mtp_parameters > 0 && checkpoint.find("model.layers." + std::to_string(c.num_hidden_layers) +
                                                             ".eh_proj.weight") != nullptr;
    s.layout.layers = c.num_hidden_layers + (mtp ? 1 : 0);
    s.layout.type = kv_type(options.exact);
    s.layout.record = c.is_mla() ? c.kv_lora_rank + c.qk_rope_head_dim : 2 * c.num_key_value_heads * c.head_dim;
    if (c.is_mla()) {
      // attention_mla.cpp turns the keys' half of the up-projection round, and unpacks an FP8 one whole.
      const int64_t keys = c.num_attention_heads * c.qk_nope_head_dim * c.kv_lora_rank;
      const int64_t values = c.num_attention_heads * c.v_head_dim * c.kv_lora_rank;
      s.owned_bytes = s.layout.layers * (scaled_latent ? 2 * keys + values : keys) * int64_t{sizeof(float)};
    }
  }
  return s;
}

}  // namespace sonde
