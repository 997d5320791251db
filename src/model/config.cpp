#include "model/config.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace sonde {
namespace {

using nlohmann::json;

// Reads typed, ranged values; remembers the first complaint.
class Reader {
 public:
  explicit Reader(const json& object, std::string where = "config.json") : object_(object), where_(std::move(where)) {}

  bool has(const char* key) const { return object_.contains(key) && !object_[key].is_null(); }

  int64_t integer(const char* key, int64_t least, int64_t most, std::optional<int64_t> otherwise = std::nullopt) {
    const auto range = fmt::format("an integer from {} to {}", least, most);
    if (!has(key)) return otherwise ? *otherwise : complain(key, range, "nothing"), otherwise.value_or(least);
    const json& v = object_[key];
    double number = v.is_number() ? v.get<double>() : std::numeric_limits<double>::quiet_NaN();
    if (!(number >= double(least) && number <= double(most)) || number != std::floor(number)) {
      complain(key, range, v.dump());
      return least;
    }
    return int64_t(number);
  }

  double number(const char* key, double least, double most, std::optional<double> otherwise = std::nullopt) {
    const auto range = fmt::format("a number from {} to {}", least, most);
    if (!has(key)) return otherwise ? *otherwise : (complain(key, range, "nothing"), least);
    const json& v = object_[key];
    const double value = v.is_number() ? v.get<double>() : std::numeric_limits<double>::quiet_NaN();
    if (!(value >= least && value <= most)) {
      complain(key, range, v.dump());
      return least;
    }
    return value;
  }

  bool boolean(const char* key, bool otherwise) {
    if (!has(key)) return otherwise;
    if (!object_[key].is_boolean()) return complain(key, "true or false", object_[key].dump()), otherwise;
    return object_[key].get<bool>();
  }

  std::string text(const char* key, std::string otherwise) {
    if (!has(key)) return otherwise;
    if (!object_[key].is_string()) return complain(key, "a string", object_[key].dump()), otherwise;
    return object_[key].get<std::string>();
  }

  int complain(const char* key, std::string expected, std::string found) {
    if (found.size() > 80) found = found.substr(0, 77) + "...";
    if (!error_)
      error_ =
          Error{Code::kInvalid, fmt::format("bad value of {}", key), where_, std::move(expected), std::move(found), ""};
    return 0;
  }
  const std::optional<Error>& error() const { return error_; }

 private:
  const json& object_;
  std::string where_;
  std::optional<Error> error_;
};

constexpr int64_t kMaxSize = 1 << 24;  // no dimension of a published model comes near

Result<RopeScaling> read_scaling(const json& object, int64_t max_positions) {
  RopeScaling scaling;
  if (!object.is_object()) return scaling;
  Reader in(object, "config.json: rope_scaling");
  const std::string kind = in.text("rope_type", in.text("type", "default"));
  if (in.error()) return *in.error();
  if (kind == "default" || kind == "none") return scaling;
  scaling.factor = in.number("factor", 1e-3, 1e6);
  scaling.original_max_position_embeddings =
      in.number("original_max_position_embeddings", 1, 1e9, double(std::max<int64_t>(max_positions, 1)));
  if (kind == "yarn") {
    scaling.kind = RopeScaling::Kind::kYarn;
    scaling.beta_fast = in.number("beta_fast", 1e-6, 1e6, 32);
    scaling.beta_slow = in.number("beta_slow", 1e-6, 1e6, 1);
    scaling.mscale = in.number("mscale", 0, 1e3, 0);
    scaling.mscale_all_dim = in.number("mscale_all_dim", 0, 1e3, 0);
    if (in.has("attention_factor")) scaling.attention_factor = in.number("attention_factor", 1e-6, 1e6);
    scaling.attn_factor = in.number("attn_factor", 1e-6, 1e6, 1);
  } else if (kind == "llama3") {
    scaling.kind = RopeScaling::Kind::kLlama3;
    scaling.low_freq_factor = in.number("low_freq_factor", 1e-6, 1e6, 1);
    scaling.high_freq_factor = in.number("high_freq_factor", 1e-6, 1e6, 4);
    if (scaling.high_freq_factor <= scaling.low_freq_factor)
      in.complain("high_freq_factor", fmt::format("more than low_freq_factor {}", scaling.low_freq_factor),
                  fmt::format("{}", scaling.high_freq_factor));
  } else {
    return Error{
        Code::kUnsupported, "unknown rope scaling", "config.json: rope_scaling", "yarn, llama3 or default", kind, ""};
  }
  if (in.error()) return *in.error();
  return scaling;
}

}  // namespace

Result<ModelConfig> ModelConfig::from_json(const json& object) {
  if (!object.is_object())
    return Error{Code::kNotFound,
                 "no model configuration",
                 "",
                 "a config.json or GGUF keys that describe a model",
                 "none",
                 "a vocabulary alone can be tokenised with, not run"};
  Reader in(object);
  ModelConfig c;
  c.model_type = in.text("model_type", "");
  c.vocab_size = in.integer("vocab_size", 1, kMaxSize);
  c.hidden_size = in.integer("hidden_size", 1, kMaxSize);
  c.intermediate_size = in.integer("intermediate_size", 1, kMaxSize);
  c.num_hidden_layers = in.integer("num_hidden_layers", 1, 4096);
  c.num_attention_heads = in.integer("num_attention_heads", 1, 65536);
  c.num_key_value_heads = in.integer("num_key_value_heads", 1, 65536, c.num_attention_heads);
  c.max_position_embeddings = in.integer("max_position_embeddings", 1, int64_t{1} << 30, 2048);
  c.rms_norm_eps = in.number("rms_norm_eps", 0, 1, 1e-6);
  c.tie_word_embeddings = in.boolean("tie_word_embeddings", false);
  c.rope_interleaved = in.text("rope_pairs", "halves") == "interleaved";

  // transformers 4: rope_theta and rope_scaling; transformers 5: both inside rope_parameters.
  const json& parameters = in.has("rope_parameters") ? object["rope_parameters"] : object;
  if (!parameters.is_object()) in.complain("rope_parameters", "an object", parameters.dump());
  Reader rope(parameters.is_object() ? parameters : object);
  c.rope_theta = rope.has("rope_theta") ? rope.number("rope_theta", 1, 1e12) : in.number("rope_theta", 1, 1e12, 10000);
  if (rope.error()) return *rope.error();

  if (in.has("kv_lora_rank")) {
    c.kv_lora_rank = in.integer("kv_lora_rank", 1, kMaxSize);
    c.q_lora_rank = in.integer("q_lora_rank", 0, kMaxSize, 0);
    c.qk_nope_head_dim = in.integer("qk_nope_head_dim", 1, 65536);
    c.qk_rope_head_dim = in.integer("qk_rope_head_dim", 2, 65536);
    c.v_head_dim = in.integer("v_head_dim", 1, 65536);
    if (c.qk_rope_head_dim % 2) in.complain("qk_rope_head_dim", "an even number", std::to_string(c.qk_rope_head_dim));
  } else {
    if (!in.has("head_dim") && c.hidden_size % c.num_attention_heads)
      in.complain("hidden_size", fmt::format("a multiple of num_attention_heads {}", c.num_attention_heads),
                  std::to_string(c.hidden_size));
    c.head_dim = in.integer("head_dim", 2, 65536,
                            std::max<int64_t>(2, c.hidden_size / std::max<int64_t>(1, c.num_attention_heads)));
    if (c.head_dim % 2) in.complain("head_dim", "an even number", std::to_string(c.head_dim));
    if (c.num_attention_heads % c.num_key_value_heads)
      in.complain("num_key_value_heads", fmt::format("a divisor of num_attention_heads {}", c.num_attention_heads),
                  std::to_string(c.num_key_value_heads));
  }

  if (in.has("n_routed_experts")) {
    c.n_routed_experts = in.integer("n_routed_experts", 1, 65536);
    c.num_experts_per_tok = in.integer("num_experts_per_tok", 1, c.n_routed_experts);
    c.n_shared_experts = in.integer("n_shared_experts", 0, 1024, 0);
    c.moe_intermediate_size = in.integer("moe_intermediate_size", 1, kMaxSize);
    c.first_k_dense_replace = in.integer("first_k_dense_replace", 0, 4096, 0);
    c.moe_layer_freq = in.integer("moe_layer_freq", 1, 4096, 1);
    c.n_group = in.integer("n_group", 1, c.n_routed_experts, 1);
    c.topk_group = in.integer("topk_group", 1, c.n_group, 1);
    if (c.n_routed_experts % c.n_group)
      in.complain("n_group", fmt::format("a divisor of n_routed_experts {}", c.n_routed_experts),
                  std::to_string(c.n_group));
    c.topk_method = in.text("topk_method", "");
    c.scoring_func = in.text("scoring_func", "");
    c.routed_scaling_factor = in.number("routed_scaling_factor", 0, 1e6, 1);
    c.norm_topk_prob = in.boolean("norm_topk_prob", false);
  }
  c.num_nextn_predict_layers = in.integer("num_nextn_predict_layers", 0, 64, 0);
  if (in.has("hidden_act") && in.text("hidden_act", "silu") != "silu")
    in.complain("hidden_act", "silu", in.text("hidden_act", ""));
  if (in.error()) return *in.error();

  // A null rope_scaling means none; transformers 5 keeps the kind beside rope_theta.
  const json none;
  const json& scaling = in.has("rope_parameters") ? parameters : in.has("rope_scaling") ? object["rope_scaling"] : none;
  SONDE_TRY(c.rope_scaling, read_scaling(scaling, c.max_position_embeddings));
  return c;
}

}  // namespace sonde
