#include "cli/survey.h"

#include <charconv>
#include <cmath>
#include <string_view>

namespace sonde {
namespace {

// Layer of "model.layers.N. ..."; -1 for what stands outside the layers.
int64_t layer_of(std::string_view name) {
  constexpr std::string_view kPrefix = "model.layers.";
  if (!name.starts_with(kPrefix)) return -1;
  name.remove_prefix(kPrefix.size());
  int64_t layer = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
  return error == std::errc() && end != name.data() + name.size() && *end == '.' ? layer : -1;
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

Survey survey(const Checkpoint& checkpoint, const ModelConfig* config) {
  Survey s;
  double active = 0, read_bytes = 0, weights = 0;
  bool scaled_latent = false;  // the latent's up-projection is in FP8
  const bool tied = !checkpoint.find("lm_head.weight") || (config && config->tie_word_embeddings);
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    const auto bytes = static_cast<int64_t>(tensor.bytes.size());
    Survey::Sum& sum = s.types[std::string(tensor.type->name)];
    ++sum.tensors, sum.bytes += bytes;
    ++s.tensors, s.bytes += bytes;

    const bool scale = is_scale(checkpoint, name);
    const int64_t count = scale || name == "rope_freqs.weight" ? 0 : tensor.count();
    if (config && layer_of(name) >= config->num_hidden_layers) {
      s.mtp_parameters += count;
      continue;
    }
    if (scale && name.find("kv_b_proj") != std::string::npos) scaled_latent = true;
    double share = 1;
    if (name == "lm_head.weight" && tied) {
      s.parameters += count;  // stored, but never read
      continue;
    }
    if (name == "model.embed_tokens.weight")
      share = (tied ? 1.0 : 0.0) + (tensor.dim(0) > 0 ? 1.0 / static_cast<double>(tensor.dim(0)) : 0.0);
    else if (config && config->n_routed_experts > 0 && name.find(".mlp.experts.") != std::string::npos) {
      share = static_cast<double>(config->num_experts_per_tok) / static_cast<double>(config->n_routed_experts);
      s.expert_bytes += bytes;
    }
    s.parameters += count;
    active += share * static_cast<double>(count);
    read_bytes += share * static_cast<double>(bytes);
    if (tensor.shape.size() > 1) weights += share * static_cast<double>(count);
  }
  s.active_parameters = static_cast<int64_t>(active);
  s.work = {static_cast<int64_t>(read_bytes), static_cast<int64_t>(weights)};

  if (config) {
    const ModelConfig& c = *config;
    const bool mtp = s.mtp_parameters > 0 && checkpoint.find("model.layers." + std::to_string(c.num_hidden_layers) +
                                                             ".eh_proj.weight") != nullptr;
    s.layout.layers = c.num_hidden_layers + (mtp ? 1 : 0);
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
