// A published folder as a GGUF file, with the keys and names that llama.cpp's converter gives.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "files/bounds.h"
#include "files/convert.h"
#include "files/convert_parts.h"
#include "files/error.h"
#include "files/gguf_config.h"
#include "files/names.h"

namespace sonde {
namespace {

using Json = nlohmann::json;

Error cannot(const Checkpoint& c, std::string what, std::string found = {}) {
  return file_error(Code::kUnsupported, c.path(), std::move(what), {}, std::move(found));
}

// config.json's numbers; remembers the first that is missing or of another kind.
class Words {
 public:
  explicit Words(const Checkpoint& c) : checkpoint_(c), config_(c.config()) {}
  bool has(const char* key) const { return config_.contains(key) && !config_[key].is_null(); }
  int64_t size(const char* key, std::optional<int64_t> otherwise = std::nullopt) {
    if (!has(key) && otherwise) return *otherwise;
    if (has(key) && config_[key].is_number_integer() && config_[key].get<int64_t>() >= 0 &&
        config_[key].get<int64_t>() <= UINT32_MAX) {
      return config_[key].get<int64_t>();
    }
    return wrong(key), 0;
  }
  double real(const Json& object, const char* key, std::optional<double> otherwise = std::nullopt) {
    const auto at = object.find(key);
    if (at != object.end() && at->is_number()) return at->get<double>();
    if (otherwise && (at == object.end() || at->is_null())) return *otherwise;
    return wrong(key), 0;
  }
  double real(const char* key, std::optional<double> otherwise = std::nullopt) { return real(config_, key, otherwise); }
  bool flag(const char* key, bool otherwise) {
    if (!has(key)) return otherwise;
    if (config_[key].is_boolean()) return config_[key].get<bool>();
    return wrong(key), otherwise;
  }
  std::string text(const char* key, std::string otherwise) const {
    return has(key) && config_[key].is_string() ? config_[key].get<std::string>() : otherwise;
  }
  void wrong(const char* key) {
    if (!error_) error_ = file_error(Code::kInvalid, checkpoint_.path(), "config.json lacks a usable value", {}, key);
  }
  Status status() const { return error_ ? Status(*error_) : Status(); }

 private:
  const Checkpoint& checkpoint_;
  const Json& config_;
  std::optional<Error> error_;
};

// Rotary words of transformers 4 (rope_theta, rope_scaling) or 5 (rope_parameters holds both).
struct Rope {
  double theta = 10000;
  Json scaling = Json::object();
  std::string type;  // "", "yarn", "llama3", "linear"
};

Rope rope_of(const Json& config, Words& words) {
  Rope out;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (config.contains(key) && config[key].is_object()) out.scaling = config[key];
  }
  out.theta = words.real(out.scaling, "rope_theta", words.real("rope_theta", 10000.0));
  for (const char* key : {"type", "rope_type"}) {
    if (out.scaling.contains(key) && out.scaling[key].is_string()) out.type = out.scaling[key].get<std::string>();
  }
  if (out.type == "default") out.type.clear();
  return out;
}

class GgufConversion {
 public:
  explicit GgufConversion(const Checkpoint& c) : c_(c), words_(c) {}
  Status prepare();
  Status write(const std::string& path, const Progress& progress);

 private:
  Status keys();
  Status rope_keys();
  Status deepseek_keys();
  void sampling_keys();
  Status plan();
  Status plan_one(const std::string& name, const Tensor& tensor);
  Status plan_experts();
  bool left_out(const std::string& name) const;
  void add(std::string name, const Type* type, std::vector<int64_t> shape, std::function<Status(const Sink&)> emit);
  std::string key(const char* name) const { return fmt::format("{}.{}", arch_, name); }
  void u32(const char* name, int64_t value) { writer_.set_u32(key(name), static_cast<uint32_t>(value)); }
  void real(const std::string& name, double value) {
    writer_.set_f32(name, static_cast<float>(value));
    if (meant_by(static_cast<float>(value)) != value) writer_.set_f64(std::string(kExactPrefix) + name, value);
  }
  void f32_key(const char* name, double value) { real(key(name), value); }

  const Checkpoint& c_;
  Words words_;
  Rope rope_;
  std::string arch_;
  bool mla_ = false;
  int64_t layers_ = 0, heads_ = 0, kv_heads_ = 0, head_dim_ = 0, extra_ = 0;
  std::vector<PlannedTensor> planned_;
  std::map<std::string, std::map<int64_t, const Tensor*>> experts_;  // by GGUF name
  std::vector<float> rope_factors_;
  GgufWriter writer_;
};

Status GgufConversion::prepare() {
  if (c_.format() != Checkpoint::Format::kSafetensors) {
    return file_error(Code::kInvalid, c_.path(), "this is a GGUF file already");
  }
  if (c_.tensors().empty() || !c_.config().is_object()) {
    return file_error(Code::kInvalid, c_.path(), "there are no weights to convert");
  }
  const std::string type = words_.text("model_type", "");
  mla_ = type == "deepseek_v2" || type == "deepseek_v3";
  arch_ = mla_ ? "deepseek2" : type;
  if (!mla_ && type != "llama" && type != "qwen2" && type != "qwen3")
    return cannot(c_, "no GGUF form is known for this model_type", type);
  layers_ = words_.size("num_hidden_layers");
  heads_ = words_.size("num_attention_heads");
  kv_heads_ = words_.size("num_key_value_heads", heads_);
  if (heads_ <= 0 || kv_heads_ <= 0) words_.wrong("num_attention_heads");
  SONDE_CHECK(words_.status());
  head_dim_ = words_.size("head_dim", words_.size("hidden_size") / heads_);
  rope_ = rope_of(c_.config(), words_);
  for (const auto& [name, tensor] : c_.tensors()) extra_ = std::max(extra_, name_numbers(name).layer + 1 - layers_);
  if (extra_ > 0 && !mla_) return cannot(c_, "there are more layers than num_hidden_layers says");
  SONDE_CHECK(plan());
  SONDE_CHECK(keys());
  return words_.status();
}

Status GgufConversion::keys() {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const fs::path whole = fs::absolute(c_.path(), ignored).lexically_normal();
  fs::path folder = fs::is_directory(whole, ignored) ? whole : whole.parent_path();
  if (!folder.has_filename()) folder = folder.parent_path();
  writer_.set_text("general.architecture", arch_);
  writer_.set_text("general.type", "model");
  writer_.set_text("general.name", folder.filename().string());
  std::map<const Type*, int64_t> bytes;
  for (const PlannedTensor& t : planned_) {
    SONDE_TRY(const int64_t n, tensor_bytes(*t.type, t.shape, t.name));
    bytes[t.type] += n;
  }
  const auto most =
      std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  writer_.set_u32("general.file_type", most->first == f16() ? 1 : most->first == bf16() ? 32 : 0);
  writer_.set_u32("general.quantization_version", 2);

  const int64_t vocabulary = words_.size("vocab_size");
  u32("vocab_size", vocabulary);
  u32("block_count", layers_ + extra_);
  u32("context_length", words_.size("max_position_embeddings"));
  u32("embedding_length", words_.size("hidden_size"));
  u32("feed_forward_length", words_.size("intermediate_size"));
  u32("attention.head_count", heads_);
  f32_key("attention.layer_norm_rms_epsilon", words_.real("rms_norm_eps", 1e-6));
  f32_key("rope.freq_base", rope_.theta);
  if (mla_) {
    SONDE_CHECK(deepseek_keys());
  } else {
    u32("attention.head_count_kv", kv_heads_);
    if (arch_ == "llama") u32("rope.dimension_count", head_dim_);
    if (arch_ == "qwen3" || head_dim_ * heads_ != words_.size("hidden_size")) {
      u32("attention.key_length", head_dim_);
      u32("attention.value_length", head_dim_);
    }
  }
  SONDE_CHECK(rope_keys());
  sampling_keys();
  SONDE_CHECK(words_.status());
  return add_vocabulary(c_, vocabulary, writer_);
}

// What generation_config.json recommends.
void GgufConversion::sampling_keys() {
  const Json& from = c_.generation_config();
  if (!from.is_object()) return;
  const auto number = [&](const char* word) { return from.contains(word) && from[word].is_number(); };
  if (from.value("do_sample", Json()) == Json(false))
    real("general.sampling.temp", 0);
  else if (number("temperature"))
    real("general.sampling.temp", from["temperature"].get<double>());
  else if (from.value("do_sample", Json()) == Json(true))
    real("general.sampling.temp", 1);
  for (const auto& [word, name] :
       {std::pair("top_p", "top_p"), std::pair("min_p", "min_p"), std::pair("repetition_penalty", "penalty_repeat")}) {
    if (number(word)) real(std::string("general.sampling.") + name, from[word].get<double>());
  }
  if (number("top_k") && from["top_k"].is_number_integer())
    writer_.set_i32("general.sampling.top_k", static_cast<int32_t>(std::clamp<int64_t>(from["top_k"], 0, INT32_MAX)));
}

Status GgufConversion::rope_keys() {
  if (rope_.type == "llama3" && !c_.config().contains(kRopeFactorsWord)) {
    // rope_freqs.weight says it to every engine, but in F32.
    Json scaling = rope_.scaling;
    scaling.erase("rope_theta");
    writer_.set_text(kRopeScalingKey, scaling.dump());
  }
  if (rope_.type.empty() || rope_.type == "llama3") return {};
  const double factor = words_.real(rope_.scaling, "factor");
  if (rope_.type == "linear") {
    writer_.set_text(key("rope.scaling.type"), "linear");
    f32_key("rope.scaling.factor", factor);
    return {};
  }
  if (rope_.type != "yarn") return cannot(c_, "GGUF has no word for this rope scaling", rope_.type);
  writer_.set_text(key("rope.scaling.type"), "yarn");
  f32_key("rope.scaling.factor", factor);
  const double original =
      words_.real(rope_.scaling, "original_max_position_embeddings", words_.real("max_position_embeddings"));
  u32("rope.scaling.original_context_length", static_cast<int64_t>(original));
  f32_key("rope.scaling.yarn_beta_fast", words_.real(rope_.scaling, "beta_fast", 32.0));
  f32_key("rope.scaling.yarn_beta_slow", words_.real(rope_.scaling, "beta_slow", 1.0));
  const double plain = factor > 1 ? 0.1 * std::log(factor) + 1 : 1;  // what cos and sin are multiplied by otherwise
  if (mla_) {
    const double mscale = words_.real(rope_.scaling, "mscale", 1.0),
                 all = words_.real(rope_.scaling, "mscale_all_dim", 0.0);
    if (mscale != all || rope_.scaling.contains("attention_factor"))
      return cannot(c_, "GGUF cannot say that mscale and mscale_all_dim differ");
    if (std::round(0.1 * all * 1e6) / 1e5 != all)  // readers take it back by ten, to five digits
      return cannot(c_, "GGUF cannot say this mscale", fmt::format("{}", all));
    f32_key("rope.scaling.yarn_log_multiplier", 0.1 * all);
  } else if (rope_.scaling.contains("attn_factor")) {
    f32_key("rope.scaling.attn_factor", words_.real(rope_.scaling, "attn_factor"));
  } else if (rope_.scaling.contains("attention_factor") && rope_.scaling["attention_factor"].is_number()) {
    f32_key("rope.scaling.attn_factor", words_.real(rope_.scaling, "attention_factor") / plain);
  }
  return {};
}

Status GgufConversion::deepseek_keys() {
  const int64_t rank = words_.size("kv_lora_rank"), rotary = words_.size("qk_rope_head_dim");
  const int64_t nope = words_.size("qk_nope_head_dim"), value = words_.size("v_head_dim");
  // The split form: one latent key and value for all heads in the cache; the published sizes are the *_mla keys.
  u32("attention.head_count_kv", 1);
  u32("attention.key_length", rank + rotary);
  u32("attention.value_length", rank);
  u32("attention.key_length_mla", nope + rotary);
  u32("attention.value_length_mla", value);
  // llama.cpp knows by V2-Lite's number of layers that the key is absent; models of other depths need the zero.
  const bool lora = words_.has("q_lora_rank");
  if (lora || words_.size("num_hidden_layers") != 27)
    u32("attention.q_lora_rank", lora ? words_.size("q_lora_rank") : 0);
  u32("attention.kv_lora_rank", rank);
  u32("rope.dimension_count", rotary);
  if (words_.size("moe_layer_freq", 1) != 1)
    return cannot(c_, "GGUF cannot say that only some layers have experts (moe_layer_freq)");
  u32("leading_dense_block_count", words_.size("first_k_dense_replace", 0));
  u32("expert_count", words_.size("n_routed_experts"));
  u32("expert_used_count", words_.size("num_experts_per_tok"));
  u32("expert_shared_count", words_.size("n_shared_experts"));
  u32("expert_feed_forward_length", words_.size("moe_intermediate_size"));
  f32_key("expert_weights_scale", words_.real("routed_scaling_factor", 1.0));
  const bool sigmoid = words_.text("model_type", "") == "deepseek_v3";
  if (words_.text("scoring_func", sigmoid ? "sigmoid" : "softmax") != (sigmoid ? "sigmoid" : "softmax")) {
    return cannot(c_, "no GGUF form is known for this scoring_func", words_.text("scoring_func", ""));
  }
  writer_.set_bool(key("expert_weights_norm"), words_.flag("norm_topk_prob", sigmoid));
  u32("expert_gating_func", sigmoid ? 2 : 1);
  if (sigmoid || words_.text("topk_method", "greedy") != "greedy") {
    u32("expert_group_count", words_.size("n_group", 1));
    u32("expert_group_used_count", words_.size("topk_group", 1));
  } else {
    u32("expert_group_count", 1);
    u32("expert_group_used_count", 1);
  }
  if (extra_ > 0) u32("nextn_predict_layers", extra_);
  return {};
}

// Buffers that some savers store and no loader reads; and a head that is said to be the embedding itself.
bool GgufConversion::left_out(const std::string& name) const {
  if (name.ends_with(".rotary_emb.inv_freq")) return true;
  return name == "lm_head.weight" && c_.config().value("tie_word_embeddings", Json(false)) == Json(true);
}

void GgufConversion::add(std::string name, const Type* type, std::vector<int64_t> shape,
                         std::function<Status(const Sink&)> emit) {
  planned_.push_back({std::move(name), type, std::move(shape), std::move(emit)});
}

Status GgufConversion::plan_one(const std::string& name, const Tensor& tensor) {
  if (left_out(name)) return {};
  const std::string where = fmt::format("{}: {}", c_.path(), name);
  const auto target = gguf_name(name);
  if (tensor.type->safetensors.starts_with("F8")) {
    return file_error(Code::kUnsupported, where, "GGUF cannot hold FP8 blocks", {}, std::string(tensor.type->name),
                      "convert from a BF16 checkpoint");
  }
  if (!target) return file_error(Code::kUnsupported, where, "GGUF has no name for this tensor");
  if (tensor.type != f32() && tensor.type != f16() && tensor.type != bf16()) {
    return file_error(Code::kUnsupported, where, "GGUF weights of this type are not known", "F32, F16 or BF16",
                      std::string(tensor.type->name));
  }
  if (const auto numbers = name_numbers(name); numbers.expert >= 0) {
    experts_[*target][numbers.expert] = &tensor;
    return {};
  }
  const bool flat = tensor.shape.size() <= 1;
  if (tensor.type != f32() && (flat || target->ends_with("ffn_gate_inp.weight"))) {  // llama.cpp wants these in F32
    add(*target, f32(), tensor.shape, [&tensor](const Sink& sink) { return sink(in_type(tensor, *f32())); });
    return {};
  }
  if (mla_ && target->ends_with(".attn_kv_b.weight")) {
    const int64_t nope = words_.size("qk_nope_head_dim"), value = words_.size("v_head_dim"), rank = tensor.dim(1),
                  heads = heads_;
    if (tensor.shape.size() != 2 || tensor.dim(0) != heads * (nope + value))
      return corrupt(where, "the tensor has another shape", {}, shape_text(tensor.shape));
    const std::string stem = target->substr(0, target->size() - std::string_view("kv_b.weight").size());
    add(stem + "k_b.weight", tensor.type, {heads, rank, nope},
        [=, &tensor](const Sink& sink) { return sink(take_k_b(tensor, heads, nope)); });
    add(stem + "v_b.weight", tensor.type, {heads, value, rank},
        [=, &tensor](const Sink& sink) { return sink(take_v_b(tensor, heads, nope)); });
    return {};
  }
  const bool q = target->find(".attn_q.") != std::string::npos, k = target->find(".attn_k.") != std::string::npos;
  if (arch_ == "llama" && (q || k)) {
    const int64_t heads = q ? heads_ : kv_heads_;
    if (tensor.shape.empty() || tensor.dim(0) % (2 * heads) != 0)
      return corrupt(where, "rows do not divide into heads", {}, shape_text(tensor.shape));
    add(*target, tensor.type, tensor.shape,
        [&tensor, heads](const Sink& sink) { return sink(pair_rows(tensor, heads, true)); });
    return {};
  }
  add(*target, tensor.type, tensor.shape, [&tensor](const Sink& sink) { return sink(tensor.bytes); });
  return {};
}

Status GgufConversion::plan_experts() {
  for (const auto& [name, by_number] : experts_) {
    const std::string where = fmt::format("{}: {}", c_.path(), name);
    const int64_t count = words_.size("n_routed_experts", 0);
    const Tensor& first = *by_number.begin()->second;
    std::vector<const Tensor*> all;
    for (const auto& [number, tensor] : by_number) {
      if (tensor->type != first.type || tensor->shape != first.shape)
        return file_error(Code::kUnsupported, where, "experts of unlike types or shapes");
      all.push_back(tensor);
    }
    if (static_cast<int64_t>(all.size()) != count || by_number.rbegin()->first != count - 1) {
      return corrupt(where, "experts are missing", fmt::format("{}", count), fmt::format("{}", all.size()));
    }
    std::vector<int64_t> shape = first.shape;
    shape.insert(shape.begin(), count);
    add(name, first.type, shape, [all](const Sink& sink) -> Status {
      for (const Tensor* t : all) SONDE_CHECK(sink(t->bytes));
      return {};
    });
  }
  return {};
}

Status GgufConversion::plan() {
  for (const auto& [name, tensor] : c_.tensors()) SONDE_CHECK(plan_one(name, tensor));
  SONDE_CHECK(plan_experts());
  if (rope_.type == "llama3") {
    if (arch_ != "llama") return cannot(c_, "GGUF has llama3 rope scaling for llama models alone");
    rope_factors_ = llama3_factors(rope_.theta, head_dim_, words_.real(rope_.scaling, "factor"),
                                   words_.real(rope_.scaling, "low_freq_factor", 1.0),
                                   words_.real(rope_.scaling, "high_freq_factor", 4.0),
                                   words_.real(rope_.scaling, "original_max_position_embeddings"));
    if (const auto given = c_.config().find(kRopeFactorsWord); given != c_.config().end())
      rope_factors_ = given->get<std::vector<float>>();  // a list of other things is caught where this began
    if (static_cast<int64_t>(rope_factors_.size()) != head_dim_ / 2) words_.wrong(kRopeFactorsWord);
    add("rope_freqs.weight", f32(), {static_cast<int64_t>(rope_factors_.size())},
        [this](const Sink& sink) { return sink(std::as_bytes(std::span(rope_factors_))); });
  }
  // Whole-model tensors first, then block by block.
  const auto order = [](const PlannedTensor& t) {
    return t.name.starts_with("blk.") ? std::strtoll(t.name.c_str() + 4, nullptr, 10) : -1;
  };
  std::sort(planned_.begin(), planned_.end(), [&](const PlannedTensor& a, const PlannedTensor& b) {
    const int64_t x = order(a), y = order(b);
    return x != y ? x < y : a.name < b.name;
  });
  if (planned_.empty()) return cannot(c_, "there are no weights to convert");
  return words_.status();
}

Status GgufConversion::write(const std::string& path, const Progress& progress) {
  int64_t total = 0, done = 0;
  for (const PlannedTensor& t : planned_) {
    SONDE_TRY(const int64_t bytes, tensor_bytes(*t.type, t.shape, t.name));
    total += bytes;
    writer_.declare(t.name, *t.type, t.shape);
  }
  SONDE_CHECK(writer_.begin(path));
  const Sink sink = [&](std::span<const std::byte> bytes) -> Status {
    SONDE_CHECK(writer_.write(bytes));
    done += static_cast<int64_t>(bytes.size());
    if (progress && !progress(done, total)) return file_error(Code::kCancelled, path, "stopped");
    return {};
  };
  for (const PlannedTensor& t : planned_) SONDE_CHECK(t.emit(sink));
  return writer_.finish();
}

}  // namespace

Status convert_to_gguf(const Checkpoint& checkpoint, const std::string& path, const Progress& progress) {
  try {
    GgufConversion conversion(checkpoint);
    SONDE_CHECK(conversion.prepare());
    return conversion.write(path, progress);
  } catch (const nlohmann::json::exception& e) {  // a value of another type than its key calls for
    return file_error(Code::kInvalid, checkpoint.path(), "config.json or the tokenizer cannot be understood", {},
                      e.what());
  }
}

}  // namespace sonde
