// One struct for every family, in the papers' words; validated once.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "sonde/result.h"

namespace sonde {

struct RopeScaling {
  enum class Kind { kNone, kYarn, kLlama3 } kind = Kind::kNone;
  double factor = 1;
  double original_max_position_embeddings = 0;
  double beta_fast = 32, beta_slow = 1;              // yarn
  double mscale = 0, mscale_all_dim = 0;             // yarn, DeepSeek
  std::optional<double> attention_factor;            // yarn: replaces 0.1 ln(factor) + 1
  double attn_factor = 1;                            // yarn, R1-0528-Qwen3: multiplies it
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
};

struct ModelConfig {
  std::string model_type;  // "deepseek_v3", "llama" ...
  int64_t vocab_size = 0, hidden_size = 0, intermediate_size = 0, num_hidden_layers = 0;
  int64_t num_attention_heads = 0, num_key_value_heads = 0, head_dim = 0;
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6, rope_theta = 10000;
  RopeScaling rope_scaling;
  bool tie_word_embeddings = false;
  bool rope_interleaved = false;  // q and k rows in neighbouring pairs (llama GGUF); MLA is always so

  // multi-head latent attention; kv_lora_rank 0: grouped-query attention
  int64_t q_lora_rank = 0, kv_lora_rank = 0, qk_nope_head_dim = 0, qk_rope_head_dim = 0, v_head_dim = 0;

  // mixture of experts; n_routed_experts 0: dense
  int64_t n_routed_experts = 0, num_experts_per_tok = 0, n_shared_experts = 0, moe_intermediate_size = 0;
  int64_t first_k_dense_replace = 0, moe_layer_freq = 1;
  int64_t n_group = 1, topk_group = 1;
  std::string topk_method, scoring_func;  // "greedy" | "group_limited_greedy" | "noaux_tc"; "softmax" | "sigmoid"
  bool norm_topk_prob = false;
  double routed_scaling_factor = 1;
  int64_t num_nextn_predict_layers = 0;

  bool is_mla() const { return kv_lora_rank > 0; }
  bool is_moe_layer(int64_t layer) const {
    return n_routed_experts > 0 && layer >= first_k_dense_replace && layer % moe_layer_freq == 0;
  }
  // Reads config.json as transformers 4 and 5 write it (rope_scaling or rope_parameters) and checks every value's
  // range.
  static Result<ModelConfig> from_json(const nlohmann::json& config);
};

}  // namespace sonde
