#include "files/gguf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "files/error.h"
#include "files/json.h"

namespace sonde {
namespace {

using Json = nlohmann::json;

struct Architecture {
  std::string_view gguf, model_type, model_class;
};
constexpr Architecture kArchitectures[] = {{"deepseek2", "deepseek_v2", "DeepseekV2ForCausalLM"},
                                           {"llama", "llama", "LlamaForCausalLM"},
                                           {"qwen2", "qwen2", "Qwen2ForCausalLM"},
                                           {"qwen3", "qwen3", "Qwen3ForCausalLM"}};

// Numbers of general.file_type; 4, 5 and 6 and 33 to 35 were withdrawn.
constexpr std::pair<int, std::string_view> kFileTypes[] = {
    {0, "F32"},     {1, "F16"},     {2, "Q4_0"},     {3, "Q4_1"},    {7, "Q8_0"},    {8, "Q5_0"},    {9, "Q5_1"},
    {10, "Q2_K"},   {11, "Q3_K_S"}, {12, "Q3_K_M"},  {13, "Q3_K_L"}, {14, "Q4_K_S"}, {15, "Q4_K_M"}, {16, "Q5_K_S"},
    {17, "Q5_K_M"}, {18, "Q6_K"},   {19, "IQ2_XXS"}, {20, "IQ2_XS"}, {21, "Q2_K_S"}, {22, "IQ3_XS"}, {23, "IQ3_XXS"},
    {24, "IQ1_S"},  {25, "IQ4_NL"}, {26, "IQ3_S"},   {27, "IQ3_M"},  {28, "IQ2_S"},  {29, "IQ2_M"},  {30, "IQ4_XS"},
    {31, "IQ1_M"},  {32, "BF16"},   {36, "TQ1_0"},   {37, "TQ2_0"},  {38, "MXFP4"}};

// Reads "ARCH.KEY" and remembers the first thing that is wrong.
class Keys {
 public:
  Keys(const Gguf& file, std::string_view architecture, const std::string& where)
      : file_(file), prefix_(fmt::format("{}.", architecture)), where_(where) {}

  bool has(std::string_view key) const { return file_.find(prefix_ + std::string(key)) != nullptr; }

  // A size or count. One value, or an array of equal ones (per layer).
  std::optional<int64_t> size(std::string_view key) {
    const GgufValue* value = find(key);
    if (value == nullptr) return std::nullopt;
    std::optional<int64_t> n = value->integer();
    if (const auto all = value->integers(); all && !all->empty()) {
      if (std::adjacent_find(all->begin(), all->end(), std::not_equal_to<>()) == all->end())
        n = all->front();
      else
        return wrong<int64_t>(key, Code::kUnsupported, "layers of unlike sizes");
    }
    if (!n || *n < 0 || *n > (int64_t{1} << 40)) return wrong<int64_t>(key, Code::kCorrupt, "not a size");
    return n;
  }
  std::optional<double> real(std::string_view key) {
    const GgufValue* value = find(key);
    if (value == nullptr) return std::nullopt;
    const auto x = value->number();
    if (!x || !std::isfinite(*x)) return wrong<double>(key, Code::kCorrupt, "not a number");
    return gguf_real(file_, prefix_ + std::string(key), *x);
  }
  std::optional<bool> flag(std::string_view key) {
    const GgufValue* value = find(key);
    if (value == nullptr) return std::nullopt;
    const auto x = value->boolean();
    if (!x) return wrong<bool>(key, Code::kCorrupt, "not true or false");
    return x;
  }
  std::optional<std::string> text(std::string_view key) {
    const GgufValue* value = find(key);
    if (value == nullptr) return std::nullopt;
    const auto x = value->text();
    if (!x) return wrong<std::string>(key, Code::kCorrupt, "not a text");
    return to_utf8(*x);
  }
  // Puts the key's size under a name of config.json; a missing key is an error unless the file holds a vocabulary
  // alone.
  void need(Json& config, const char* name, std::string_view key) {
    if (const auto n = size(key))
      config[name] = *n;
    else if (!error_ && !file_.tensors.empty())
      wrong<int64_t>(key, Code::kCorrupt, "the metadata key is missing");
  }
  const std::optional<Error>& error() const { return error_; }

 private:
  const GgufValue* find(std::string_view key) const { return file_.find(prefix_ + std::string(key)); }
  template <class T>
  std::optional<T> wrong(std::string_view key, Code code, const char* what) {
    if (!error_) error_ = file_error(code, fmt::format("{}: {}{}", where_, prefix_, key), what);
    return std::nullopt;
  }
  const Gguf& file_;
  std::string prefix_;
  std::string where_;
  std::optional<Error> error_;
};

bool has_tensor(const Gguf& file, std::string_view name) {
  return std::any_of(file.tensors.begin(), file.tensors.end(), [&](const Gguf::Entry& e) { return e.name == name; });
}

void rope(Keys& keys, Json& c) {
  c["rope_theta"] = keys.real("rope.freq_base").value_or(10000.0);
  const auto type = keys.text("rope.scaling.type");
  const double factor = keys.real("rope.scaling.factor").value_or(keys.real("rope.scale_linear").value_or(1.0));
  if (type == "yarn") {
    Json s = {{"type", "yarn"}, {"rope_type", "yarn"}, {"factor", factor}};
    if (const auto n = keys.size("rope.scaling.original_context_length")) s["original_max_position_embeddings"] = *n;
    s["beta_fast"] = keys.real("rope.scaling.yarn_beta_fast").value_or(32.0);
    s["beta_slow"] = keys.real("rope.scaling.yarn_beta_slow").value_or(1.0);
    if (const auto f = keys.real("rope.scaling.attn_factor"); f && *f != 1.0) s["attn_factor"] = *f;
    c["rope_scaling"] = s;
  } else if (type && *type != "none") {
    c["rope_scaling"] = {{"type", *type}, {"rope_type", *type}, {"factor", factor}};
  } else if (!type && factor != 1.0) {
    c["rope_scaling"] = {{"type", "linear"}, {"rope_type", "linear"}, {"factor", factor}};
  }
}

// Files from before expert_group_count was written: the groups of the two releases that have any.
std::pair<int64_t, int64_t> published_groups(const Json& c) {
  if (c.value("n_routed_experts", 0) == 256 && c.value("hidden_size", 0) == 7168) return {8, 4};  // V3, R1, V3.1
  if (c.value("n_routed_experts", 0) == 160 && c.value("hidden_size", 0) == 5120) return {8, 3};  // V2, V2.5
  return {1, 1};
}

void deepseek(Keys& keys, Json& c) {
  const bool split = keys.has("attention.key_length_mla");
  c["num_key_value_heads"] = c.value("num_attention_heads", int64_t{0});  // 1 in split files: a matter of their cache
  const auto q_rank = keys.size("attention.q_lora_rank");
  c["q_lora_rank"] = q_rank.value_or(0) > 0 ? Json(*q_rank) : Json();
  keys.need(c, "kv_lora_rank", "attention.kv_lora_rank");
  keys.need(c, "qk_rope_head_dim", "rope.dimension_count");
  keys.need(c, "qk_nope_head_dim", split ? "attention.key_length_mla" : "attention.key_length");
  keys.need(c, "v_head_dim", split ? "attention.value_length_mla" : "attention.value_length");
  if (c.contains("qk_nope_head_dim")) {
    c["qk_nope_head_dim"] = c["qk_nope_head_dim"].get<int64_t>() - c.value("qk_rope_head_dim", int64_t{0});
  }
  keys.need(c, "n_routed_experts", "expert_count");
  keys.need(c, "num_experts_per_tok", "expert_used_count");
  keys.need(c, "n_shared_experts", "expert_shared_count");
  keys.need(c, "moe_intermediate_size", "expert_feed_forward_length");
  c["first_k_dense_replace"] = keys.size("leading_dense_block_count").value_or(0);
  c["moe_layer_freq"] = 1;
  c["routed_scaling_factor"] = keys.real("expert_weights_scale").value_or(1.0);
  c["norm_topk_prob"] = keys.flag("expert_weights_norm").value_or(false);
  const auto [groups, kept] = published_groups(c);
  c["n_group"] = keys.size("expert_group_count").value_or(groups);
  c["topk_group"] = keys.size("expert_group_used_count").value_or(kept);
  if (keys.size("expert_gating_func").value_or(1) == 2) {
    c["model_type"] = "deepseek_v3";
    c["architectures"] = {"DeepseekV3ForCausalLM"};
    c["scoring_func"] = "sigmoid";
    c["topk_method"] = "noaux_tc";
  } else {
    c["scoring_func"] = "softmax";
    c["topk_method"] = c["n_group"] == 1 ? "greedy" : "group_limited_greedy";
  }
  if (c.contains("rope_scaling")) {
    // The key is 0.1 * mscale_all_dim; every release has mscale = mscale_all_dim.
    const double mscale = std::round(keys.real("rope.scaling.yarn_log_multiplier").value_or(0.0) * 1e6) / 1e5;
    c["rope_scaling"]["mscale"] = c["rope_scaling"]["mscale_all_dim"] = mscale;
  }
}

void grouped_query(Keys& keys, Json& c, std::string_view architecture) {
  const int64_t heads = c.value("num_attention_heads", int64_t{0}), width = c.value("hidden_size", int64_t{0});
  c["num_key_value_heads"] = keys.size("attention.head_count_kv").value_or(heads);
  c["head_dim"] = keys.size("attention.key_length").value_or(heads > 0 ? width / heads : 0);
  if (architecture == "llama") {
    c["rope_pairs"] = "interleaved";
    if (const auto experts = keys.size("expert_count"); experts.value_or(0) > 0) {
      c["model_type"] = "mixtral";
      c["architectures"] = {"MixtralForCausalLM"};
      c["num_local_experts"] = *experts;
    }
  }
}

}  // namespace

double meant_by(float stored) {
  return std::isfinite(stored) ? std::strtod(fmt::format("{}", stored).c_str(), nullptr) : double{stored};
}

double gguf_real(const Gguf& file, const std::string& key, double stored) {
  const auto single = static_cast<float>(stored);
  if (static_cast<double>(single) != stored) return stored;
  const GgufValue* exact = file.find(std::string(kExactPrefix) + key);
  const auto value = exact != nullptr ? exact->number() : std::nullopt;
  // Only where both still agree: a tool may have changed the key that it knows.
  if (value && static_cast<float>(*value) == single) return *value;
  return meant_by(single);
}

Json gguf_generation_config(const Gguf& file) {
  Json out;
  const auto real = [&](const char* key) -> std::optional<double> {
    const std::string name = std::string("general.sampling.") + key;
    const GgufValue* value = file.find(name);
    const auto number = value != nullptr ? value->number() : std::nullopt;
    return number && std::isfinite(*number) ? std::optional(gguf_real(file, name, *number)) : std::nullopt;
  };
  if (const auto t = real("temp")) {
    out["do_sample"] = *t > 0;
    if (*t > 0) out["temperature"] = *t;
  }
  for (const auto& [key, word] :
       {std::pair("top_p", "top_p"), std::pair("min_p", "min_p"), std::pair("penalty_repeat", "repetition_penalty")}) {
    if (const auto value = real(key)) out[word] = *value;
  }
  if (const GgufValue* k = file.find("general.sampling.top_k"); k != nullptr && k->integer())
    out["top_k"] = *k->integer();
  return out;
}

std::string_view gguf_file_type(int64_t number) {
  for (const auto& [n, name] : kFileTypes) {
    if (n == number) return name;
  }
  return "";
}

Result<Json> gguf_config(const Gguf& file, const std::string& where) {
  const GgufValue* value = file.find("general.architecture");
  const auto name = value != nullptr ? value->text() : std::nullopt;
  const auto* known = std::find_if(std::begin(kArchitectures), std::end(kArchitectures),
                                   [&](const Architecture& a) { return name && a.gguf == *name; });
  if (known == std::end(kArchitectures)) {
    if (file.tensors.empty()) return Json();
    if (!name) return corrupt(where, "general.architecture is missing");
    return file_error(Code::kUnsupported, where, "unknown architecture", "deepseek2, llama, qwen2 or qwen3",
                      to_utf8(*name));
  }
  Keys keys(file, *name, where);
  Json c = {{"model_type", known->model_type}, {"architectures", {known->model_class}}, {"hidden_act", "silu"}};
  const auto* tokens = file.find("tokenizer.ggml.tokens");
  if (keys.has("vocab_size") || tokens == nullptr)
    keys.need(c, "vocab_size", "vocab_size");
  else
    c["vocab_size"] = tokens->count;
  keys.need(c, "hidden_size", "embedding_length");
  keys.need(c, "intermediate_size", "feed_forward_length");
  keys.need(c, "num_hidden_layers", "block_count");
  keys.need(c, "num_attention_heads", "attention.head_count");
  keys.need(c, "max_position_embeddings", "context_length");
  const int64_t extra = keys.size("nextn_predict_layers").value_or(0);
  if (c.contains("num_hidden_layers")) {
    const int64_t blocks = c["num_hidden_layers"].get<int64_t>();
    if (extra > blocks) {
      return corrupt(where, "more prediction layers than blocks", {}, fmt::format("{} of {}", extra, blocks));
    }
    c["num_hidden_layers"] = blocks - extra;
  }
  c["rms_norm_eps"] = keys.real("attention.layer_norm_rms_epsilon").value_or(1e-6);
  c["tie_word_embeddings"] = !has_tensor(file, "output.weight");
  c["attention_bias"] = *name == "qwen2" || has_tensor(file, "blk.0.attn_q.bias");
  rope(keys, c);
  if (*name == "deepseek2") {
    deepseek(keys, c);
    c["num_nextn_predict_layers"] = extra;
  } else {
    grouped_query(keys, c, *name);
  }
  for (const auto& [key, word] : {std::pair("tokenizer.ggml.bos_token_id", "bos_token_id"),
                                  std::pair("tokenizer.ggml.eos_token_id", "eos_token_id")}) {
    const GgufValue* id = file.find(key);
    if (id != nullptr && id->integer()) c[word] = *id->integer();
  }
  if (const GgufValue* type = file.find("general.file_type"); type != nullptr && type->integer()) {
    if (const auto text = gguf_file_type(*type->integer()); !text.empty()) c["file_type"] = text;
  }
  if (keys.error()) return *keys.error();
  return c;
}

Result<std::optional<GgufVocabulary>> gguf_vocabulary(const Gguf& file, const std::string& where) {
  constexpr std::string_view kPrefix = "tokenizer.ggml.", kSuffix = "_token_id";
  const auto at = [&](std::string_view key) { return file.find(std::string(kPrefix) + std::string(key)); };
  const auto here = [&](std::string_view key) { return fmt::format("{}: {}{}", where, kPrefix, key); };
  const GgufValue* tokens = at("tokens");
  if (tokens == nullptr) return std::optional<GgufVocabulary>();
  GgufVocabulary v;
  auto texts = tokens->texts();
  if (!texts || texts->size() > INT32_MAX) return corrupt(here("tokens"), "not a list of texts");
  v.tokens = std::move(*texts);
  if (const auto* model = at("model"); model != nullptr && model->text()) v.model = to_utf8(*model->text());
  if (const auto* pre = at("pre"); pre != nullptr && pre->text()) v.pre = to_utf8(*pre->text());
  if (const auto* types = at("token_type")) {
    const auto all = types->integers();
    if (!all || all->size() != v.tokens.size()) {
      return corrupt(here("token_type"), "not one number for each token", fmt::format("{}", v.tokens.size()),
                     fmt::format("{}", types->count));
    }
    for (const int64_t t : *all) v.types.push_back(static_cast<int32_t>(std::clamp<int64_t>(t, INT32_MIN, INT32_MAX)));
  }
  if (const auto* scores = at("scores")) {
    const auto all = scores->numbers();
    if (!all || all->size() != v.tokens.size()) {
      return corrupt(here("scores"), "not one number for each token", fmt::format("{}", v.tokens.size()),
                     fmt::format("{}", scores->count));
    }
    for (const double s : *all) v.scores.push_back(static_cast<float>(s));
  }
  if (const auto* merges = at("merges")) {
    auto all = merges->texts();
    if (!all) return corrupt(here("merges"), "not a list of texts");
    v.merges = std::move(*all);
  }
  for (auto it = file.metadata.lower_bound(kPrefix); it != file.metadata.end() && it->first.starts_with(kPrefix);
       ++it) {
    std::string_view key = it->first;
    key.remove_prefix(kPrefix.size());
    if (!key.ends_with(kSuffix)) continue;
    key.remove_suffix(kSuffix.size());
    const auto id = it->second.integer();
    // Ids outside the vocabulary stand for "none" in some files.
    if (!id || *id < 0 || *id >= static_cast<int64_t>(v.tokens.size())) continue;
    const std::string word(key == "padding"                           ? "pad"
                           : key == "unknown"                         ? "unk"
                           : key == "seperator" || key == "separator" ? "sep"
                                                                      : key);
    v.ids[word] = static_cast<int32_t>(*id);
  }
  const auto flag = [&](std::string_view key) -> std::optional<bool> {
    const GgufValue* value = at(key);
    return value == nullptr ? std::nullopt : value->boolean();
  };
  v.add_bos = flag("add_bos_token");
  v.add_eos = flag("add_eos_token");
  v.add_space_prefix = flag("add_space_prefix");
  const auto none = [&](const char* key) {
    const GgufValue* value = file.find(key);
    return value != nullptr && value->text() == "none";
  };
  v.no_normalizer = none(kNormalizerKey);
  v.no_post_processor = none(kPostProcessorKey);
  return std::optional<GgufVocabulary>(std::move(v));
}

}  // namespace sonde
