#include "files/synth_shapes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace sonde {
namespace {

using Latent = SynthShape::Latent;
using Fill = SynthTensor::Fill;

const SynthShape kShapes[] = {
    {.name = "v2-lite",
     .architecture = "deepseek2",
     .layers = 27,
     .hidden = 2048,
     .intermediate = 10944,
     .heads = 16,
     .key_heads = 16,
     .head_dim = 192,
     .vocabulary = 102400,
     .context = 163840,
     .rope_base = 1e4,
     .epsilon = 1e-6,
     .latent = Latent{.q_rank = 0,
                      .kv_rank = 512,
                      .nope = 128,
                      .rope = 64,
                      .value = 128,
                      .dense_layers = 1,
                      .experts = 64,
                      .used = 6,
                      .shared = 2,
                      .width = 1408,
                      .groups = 1,
                      .groups_used = 1,
                      .scale = 1,
                      .log_multiplier = 0.0707,
                      .sigmoid = false}},
    {.name = "v2",
     .architecture = "deepseek2",
     .layers = 60,
     .hidden = 5120,
     .intermediate = 12288,
     .heads = 128,
     .key_heads = 128,
     .head_dim = 192,
     .vocabulary = 102400,
     .context = 163840,
     .rope_base = 1e4,
     .epsilon = 1e-6,
     .latent = Latent{.q_rank = 1536,
                      .kv_rank = 512,
                      .nope = 128,
                      .rope = 64,
                      .value = 128,
                      .dense_layers = 1,
                      .experts = 160,
                      .used = 6,
                      .shared = 2,
                      .width = 1536,
                      .groups = 8,
                      .groups_used = 3,
                      .scale = 16,
                      .log_multiplier = 0.1,
                      .sigmoid = false}},
    {.name = "v3",
     .architecture = "deepseek2",
     .layers = 61,
     .hidden = 7168,
     .intermediate = 18432,
     .heads = 128,
     .key_heads = 128,
     .head_dim = 192,
     .vocabulary = 129280,
     .context = 163840,
     .rope_base = 1e4,
     .epsilon = 1e-6,
     .mtp_layers = 1,
     .latent = Latent{.q_rank = 1536,
                      .kv_rank = 512,
                      .nope = 128,
                      .rope = 64,
                      .value = 128,
                      .dense_layers = 3,
                      .experts = 256,
                      .used = 8,
                      .shared = 1,
                      .width = 2048,
                      .groups = 8,
                      .groups_used = 4,
                      .scale = 2.5,
                      .log_multiplier = 0.1,
                      .sigmoid = true}},
    {.name = "r1-distill-qwen-1.5b",
     .architecture = "qwen2",
     .layers = 28,
     .hidden = 1536,
     .intermediate = 8960,
     .heads = 12,
     .key_heads = 2,
     .head_dim = 128,
     .vocabulary = 151936,
     .context = 131072,
     .rope_base = 1e4,
     .epsilon = 1e-6,
     .biases = true,
     .latent = {}},
    {.name = "r1-distill-qwen-7b",
     .architecture = "qwen2",
     .layers = 28,
     .hidden = 3584,
     .intermediate = 18944,
     .heads = 28,
     .key_heads = 4,
     .head_dim = 128,
     .vocabulary = 152064,
     .context = 131072,
     .rope_base = 1e4,
     .epsilon = 1e-6,
     .biases = true,
     .latent = {}},
    {.name = "r1-distill-llama-8b",
     .architecture = "llama",
     .layers = 32,
     .hidden = 4096,
     .intermediate = 14336,
     .heads = 32,
     .key_heads = 8,
     .head_dim = 128,
     .vocabulary = 128256,
     .context = 131072,
     .rope_base = 5e5,
     .epsilon = 1e-5,
     .llama3_factors = true,
     .latent = {}},
    {.name = "smollm2-135m",
     .architecture = "llama",
     .layers = 30,
     .hidden = 576,
     .intermediate = 1536,
     .heads = 9,
     .key_heads = 3,
     .head_dim = 64,
     .vocabulary = 49152,
     .context = 8192,
     .rope_base = 1e5,
     .epsilon = 1e-5,
     .tied = true,
     .latent = {}},
    {.name = "mini",
     .architecture = "deepseek2",
     .layers = 5,
     .hidden = 192,
     .intermediate = 512,
     .heads = 6,
     .key_heads = 6,
     .head_dim = 48,
     .vocabulary = 1024,
     .context = 2048,
     .rope_base = 1e4,
     .epsilon = 1e-6,
     .mtp_layers = 1,
     .latent = Latent{.q_rank = 96,
                      .kv_rank = 64,
                      .nope = 32,
                      .rope = 16,
                      .value = 32,
                      .dense_layers = 1,
                      .experts = 8,
                      .used = 2,
                      .shared = 1,
                      .width = 128,
                      .groups = 1,
                      .groups_used = 1,
                      .scale = 1.5,
                      .log_multiplier = 0,
                      .sigmoid = true}},
};

class Tensors {
 public:
  // Products of such a matrix with values of unit variance have unit variance.
  void matrix(std::string name, std::vector<int64_t> shape, int64_t inputs = 0) {
    const double n = double(inputs ? inputs : shape.back());
    out.push_back({prefix + std::move(name) + ".weight", std::move(shape), Fill::kNormal, 1 / std::sqrt(n)});
  }
  void norm(std::string name, int64_t n) { out.push_back({prefix + std::move(name) + ".weight", {n}, Fill::kOnes, 0}); }
  void bias(std::string name, int64_t n, double deviation) {
    out.push_back({prefix + std::move(name) + ".bias", {n}, Fill::kNormal, deviation});
  }
  std::string prefix;
  std::vector<SynthTensor> out;
};

void latent_attention(const SynthShape& s, const Latent& l, Tensors& t) {
  const int64_t query = s.heads * (l.nope + l.rope);
  if (l.q_rank > 0) {
    t.matrix("attn_q_a", {l.q_rank, s.hidden});
    t.norm("attn_q_a_norm", l.q_rank);
    t.matrix("attn_q_b", {query, l.q_rank});
  } else {
    t.matrix("attn_q", {query, s.hidden});
  }
  t.matrix("attn_kv_a_mqa", {l.kv_rank + l.rope, s.hidden});
  t.norm("attn_kv_a_norm", l.kv_rank);
  t.matrix("attn_k_b", {s.heads, l.kv_rank, l.nope},
           l.kv_rank);  // turned round: it carries queries into the latent space
  t.matrix("attn_v_b", {s.heads, l.value, l.kv_rank});
  t.matrix("attn_output", {s.hidden, s.heads * l.value});
}

void grouped_attention(const SynthShape& s, Tensors& t) {
  const int64_t query = s.heads * s.head_dim, key = s.key_heads * s.head_dim;
  for (const auto& [name, rows] : {std::pair("attn_q", query), std::pair("attn_k", key), std::pair("attn_v", key)}) {
    t.matrix(name, {rows, s.hidden});
    if (s.biases) t.bias(name, rows, 0.1);
  }
  t.matrix("attn_output", {s.hidden, query});
}

void feed_forward(const SynthShape& s, const char* suffix, int64_t width, Tensors& t) {
  t.matrix(fmt::format("ffn_gate{}", suffix), {width, s.hidden});
  t.matrix(fmt::format("ffn_up{}", suffix), {width, s.hidden});
  t.matrix(fmt::format("ffn_down{}", suffix), {s.hidden, width});
}

void experts(const SynthShape& s, const Latent& l, Tensors& t) {
  t.matrix("ffn_gate_inp", {l.experts, s.hidden});
  if (l.sigmoid) t.bias("exp_probs_b", l.experts, 0.01);
  t.matrix("ffn_gate_exps", {l.experts, l.width, s.hidden});
  t.matrix("ffn_up_exps", {l.experts, l.width, s.hidden});
  t.matrix("ffn_down_exps", {l.experts, s.hidden, l.width});
  feed_forward(s, "_shexp", l.width * l.shared, t);
}

// What multi-token prediction puts before and after its block: DeepSeek-V3, section 2.2. The checkpoints repeat the
// embedding and the head there.
void prediction(const SynthShape& s, Tensors& t) {
  t.norm("nextn.enorm", s.hidden);
  t.norm("nextn.hnorm", s.hidden);
  t.matrix("nextn.eh_proj", {s.hidden, 2 * s.hidden});
  t.matrix("nextn.embed_tokens", {s.vocabulary, s.hidden});
  t.matrix("nextn.shared_head_head", {s.vocabulary, s.hidden});
  t.norm("nextn.shared_head_norm", s.hidden);
}

}  // namespace

std::span<const SynthShape> all_synth_shapes() { return kShapes; }

std::vector<SynthTensor> synth_tensors(const SynthShape& s, int64_t layers) {
  Tensors t;
  t.matrix("token_embd", {s.vocabulary, s.hidden});
  t.norm("output_norm", s.hidden);
  if (!s.tied) t.matrix("output", {s.vocabulary, s.hidden});
  if (s.llama3_factors) t.out.push_back({"rope_freqs.weight", {s.head_dim / 2}, Fill::kRopeFactors, 0});
  for (int64_t layer = 0; layer < layers + s.mtp_layers; ++layer) {
    t.prefix = fmt::format("blk.{}.", layer);
    if (layer >= layers) prediction(s, t);
    t.norm("attn_norm", s.hidden);
    if (s.latent)
      latent_attention(s, *s.latent, t);
    else
      grouped_attention(s, t);
    t.norm("ffn_norm", s.hidden);
    if (s.latent && (layer >= s.latent->dense_layers || layer >= layers))
      experts(s, *s.latent, t);
    else
      feed_forward(s, "", s.intermediate, t);
  }
  return std::move(t.out);
}

void set_shape_keys(const SynthShape& s, int64_t layers, GgufWriter& out) {
  const auto key = [&](std::string_view name) { return fmt::format("{}.{}", s.architecture, name); };
  const auto size = [&](std::string_view name, int64_t n) { out.set_u32(key(name), static_cast<uint32_t>(n)); };
  const auto real = [&](std::string_view name, double x) { out.set_f32(key(name), static_cast<float>(x)); };
  out.set_text("general.architecture", s.architecture);
  out.set_text("general.type", "model");
  size("block_count", layers + s.mtp_layers);
  size("context_length", s.context);
  size("embedding_length", s.hidden);
  size("feed_forward_length", s.intermediate);
  size("attention.head_count", s.heads);
  real("attention.layer_norm_rms_epsilon", s.epsilon);
  real("rope.freq_base", s.rope_base);
  size("vocab_size", s.vocabulary);
  if (!s.latent) {
    size("attention.head_count_kv", s.key_heads);
    size("rope.dimension_count", s.head_dim);
    return;
  }
  const Latent& l = *s.latent;
  size("attention.head_count_kv", 1);  // the latent vector is the one key and the one value of all heads
  size("attention.key_length", l.kv_rank + l.rope);
  size("attention.value_length", l.kv_rank);
  size("attention.key_length_mla", l.nope + l.rope);
  size("attention.value_length_mla", l.value);
  // llama.cpp knows by the number of layers that V2-Lite's key is absent; a file cut short needs the zero.
  if (l.q_rank > 0 || layers != s.layers) size("attention.q_lora_rank", l.q_rank);
  size("attention.kv_lora_rank", l.kv_rank);
  size("rope.dimension_count", l.rope);
  size("leading_dense_block_count", std::min(l.dense_layers, layers));
  size("expert_count", l.experts);
  size("expert_used_count", l.used);
  size("expert_shared_count", l.shared);
  size("expert_feed_forward_length", l.width);
  real("expert_weights_scale", l.scale);
  out.set_bool(key("expert_weights_norm"), l.sigmoid);
  size("expert_gating_func", l.sigmoid ? 2 : 1);
  if (l.groups > 1) {
    size("expert_group_count", l.groups);
    size("expert_group_used_count", l.groups_used);
  }
  if (s.mtp_layers > 0) size("nextn_predict_layers", s.mtp_layers);
  if (l.log_multiplier == 0) return;
  out.set_text(key("rope.scaling.type"), "yarn");
  real("rope.scaling.factor", 40);
  size("rope.scaling.original_context_length", 4096);
  real("rope.scaling.yarn_beta_fast", 32);
  real("rope.scaling.yarn_beta_slow", 1);
  real("rope.scaling.yarn_log_multiplier", l.log_multiplier);
}

std::vector<float> llama3_factors(const SynthShape& s) {
  constexpr double kFactor = 8, kLow = 1, kHigh = 4, kOriginal = 8192;
  std::vector<float> factors;
  for (int64_t i = 0; i < s.head_dim / 2; ++i) {
    const double wave = 2 * std::numbers::pi * std::pow(s.rope_base, 2.0 * double(i) / double(s.head_dim));
    const double t =
        (kOriginal / wave - kLow) / (kHigh - kLow);  // 0: long waves, slowed down; 1: short ones, left alone
    factors.push_back(static_cast<float>(t <= 0 ? kFactor : t >= 1 ? 1.0 : 1 / ((1 - t) / kFactor + t)));
  }
  return factors;
}

}  // namespace sonde
