#include "files/names.h"

#include <fmt/format.h>

#include <charconv>
#include <utility>

namespace sonde {
namespace {

constexpr std::pair<std::string_view, std::string_view> kTop[] = {
    {"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}};

// Inside a block, without the suffix ".weight" or ".bias".
constexpr std::pair<std::string_view, std::string_view> kBlock[] = {{"attn_norm", "input_layernorm"},
                                                                    {"ffn_norm", "post_attention_layernorm"},
                                                                    {"attn_q", "self_attn.q_proj"},
                                                                    {"attn_k", "self_attn.k_proj"},
                                                                    {"attn_v", "self_attn.v_proj"},
                                                                    {"attn_output", "self_attn.o_proj"},
                                                                    {"attn_q_norm", "self_attn.q_norm"},
                                                                    {"attn_k_norm", "self_attn.k_norm"},
                                                                    {"attn_q_a", "self_attn.q_a_proj"},
                                                                    {"attn_q_a_norm", "self_attn.q_a_layernorm"},
                                                                    {"attn_q_b", "self_attn.q_b_proj"},
                                                                    {"attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"},
                                                                    {"attn_kv_a_norm", "self_attn.kv_a_layernorm"},
                                                                    {"attn_kv_b", "self_attn.kv_b_proj"},
                                                                    {"attn_k_b", "self_attn.k_b_proj"},
                                                                    {"attn_v_b", "self_attn.v_b_proj"},
                                                                    {"ffn_gate", "mlp.gate_proj"},
                                                                    {"ffn_up", "mlp.up_proj"},
                                                                    {"ffn_down", "mlp.down_proj"},
                                                                    {"ffn_gate_inp", "mlp.gate"},
                                                                    {"ffn_gate_shexp", "mlp.shared_experts.gate_proj"},
                                                                    {"ffn_up_shexp", "mlp.shared_experts.up_proj"},
                                                                    {"ffn_down_shexp", "mlp.shared_experts.down_proj"},
                                                                    {"ffn_gate_exps", "mlp.experts.{}.gate_proj"},
                                                                    {"ffn_up_exps", "mlp.experts.{}.up_proj"},
                                                                    {"ffn_down_exps", "mlp.experts.{}.down_proj"},
                                                                    {"nextn.eh_proj", "eh_proj"},
                                                                    {"nextn.enorm", "enorm"},
                                                                    {"nextn.hnorm", "hnorm"},
                                                                    {"nextn.embed_tokens", "embed_tokens"},
                                                                    {"nextn.shared_head_head", "shared_head.head"},
                                                                    {"nextn.shared_head_norm", "shared_head.norm"}};

constexpr std::string_view kBias = "mlp.gate.e_score_correction_bias";

// Reads "12." at the front of `text` and removes it.
std::optional<int64_t> number_front(std::string_view& text) {
  int64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  const auto used = static_cast<std::size_t>(end - text.data());
  if (error != std::errc() || n < 0 || used >= text.size() || text[used] != '.') return std::nullopt;
  text.remove_prefix(used + 1);
  return n;
}

bool remove_front(std::string_view& text, std::string_view front) {
  if (!text.starts_with(front)) return false;
  text.remove_prefix(front.size());
  return true;
}

// "a.b.weight" -> "a.b", ".weight"
std::pair<std::string_view, std::string_view> split_suffix(std::string_view name) {
  const auto dot = name.rfind('.');
  if (dot == std::string_view::npos) return {name, {}};
  return {name.substr(0, dot), name.substr(dot)};
}

}  // namespace

std::string hf_name(std::string_view gguf) {
  std::string_view rest = gguf;
  if (!remove_front(rest, "blk.")) {
    const auto [base, suffix] = split_suffix(gguf);
    for (const auto& [from, to] : kTop) {
      if (base == from && (suffix == ".weight" || suffix == ".bias")) return fmt::format("{}{}", to, suffix);
    }
    return std::string(gguf);
  }
  const auto layer = number_front(rest);
  if (!layer) return std::string(gguf);
  if (rest == "exp_probs_b.bias" || rest == "exp_probs_b") return fmt::format("model.layers.{}.{}", *layer, kBias);
  const auto [base, suffix] = split_suffix(rest);
  if (suffix != ".weight" && suffix != ".bias") return std::string(gguf);
  for (const auto& [from, to] : kBlock) {
    if (base == from) return fmt::format("model.layers.{}.{}{}", *layer, to, suffix);
  }
  return std::string(gguf);
}

std::optional<std::string> gguf_name(std::string_view hf) {
  std::string_view rest = hf;
  const auto [whole, whole_suffix] = split_suffix(hf);
  for (const auto& [to, from] : kTop) {
    if (whole == from) return fmt::format("{}{}", to, whole_suffix);
  }
  if (hf == "rope_freqs.weight") return std::string(hf);
  if (!remove_front(rest, "model.layers.")) return std::nullopt;
  const auto layer = number_front(rest);
  if (!layer) return std::nullopt;
  if (rest == kBias) return fmt::format("blk.{}.exp_probs_b.bias", *layer);
  std::string generic(rest);  // the expert's number becomes {}
  if (std::string_view tail = rest; remove_front(tail, "mlp.experts.")) {
    if (!number_front(tail)) return std::nullopt;
    generic = fmt::format("mlp.experts.{{}}.{}", tail);
  }
  const auto [base, suffix] = split_suffix(generic);
  if (suffix != ".weight" && suffix != ".bias") return std::nullopt;
  for (const auto& [to, from] : kBlock) {
    if (base == from) return fmt::format("blk.{}.{}{}", *layer, to, suffix);
  }
  return std::nullopt;
}

NameNumbers name_numbers(std::string_view hf) {
  NameNumbers out;
  std::string_view rest = hf;
  if (!remove_front(rest, "model.layers.")) return out;
  out.layer = number_front(rest).value_or(-1);
  if (remove_front(rest, "mlp.experts.")) out.expert = number_front(rest).value_or(-1);
  return out;
}

}  // namespace sonde
