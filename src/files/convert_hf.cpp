// A GGUF file as a published folder.
#include <fmt/format.h>

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "files/bounds.h"
#include "files/convert.h"
#include "files/convert_parts.h"
#include "files/error.h"
#include "files/gguf_config.h"
#include "files/names.h"
#include "files/output.h"
#include "files/safetensors.h"

namespace sonde {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int64_t kShardBytes = 5'000'000'000;

class HfConversion {
 public:
  explicit HfConversion(const Checkpoint& c) : c_(c), config_(c.config()) {}
  Status prepare();
  Status write(const std::string& folder, const Progress& progress);

 private:
  Status choose_type();
  Status plan_one(const std::string& name, const Tensor& tensor);
  Status rope();
  Status write_weights(const fs::path& folder, const Progress& progress);
  Status write_texts(const fs::path& folder);
  void add(std::string name, const Type* type, std::vector<int64_t> shape, std::function<Status(const Sink&)> emit) {
    planned_.push_back({std::move(name), type, std::move(shape), std::move(emit)});
  }

  const Checkpoint& c_;
  Json config_;
  const Type* main_ = nullptr;  // what most weights are stored in
  std::vector<PlannedTensor> planned_;
};

Status HfConversion::prepare() {
  if (c_.format() != Checkpoint::Format::kGguf)
    return file_error(Code::kInvalid, c_.path(), "this is a Hugging Face checkpoint already");
  if (c_.tensors().empty() || !config_.is_object())
    return file_error(Code::kInvalid, c_.path(), "there are no weights to convert");
  SONDE_CHECK(choose_type());
  for (const auto& [name, tensor] : c_.tensors()) SONDE_CHECK(plan_one(name, tensor));
  SONDE_CHECK(rope());
  // Layer 10 comes after layer 9.
  std::sort(planned_.begin(), planned_.end(), [](const PlannedTensor& a, const PlannedTensor& b) {
    const NameNumbers x = name_numbers(a.name), y = name_numbers(b.name);
    if (x.layer != y.layer) return x.layer < y.layer;
    return x.expert != y.expert ? x.expert < y.expert : a.name < b.name;
  });
  config_.erase("rope_pairs");
  config_.erase("file_type");
  config_["torch_dtype"] = main_ == bf16() ? "bfloat16" : main_ == f16() ? "float16" : "float32";
  const auto& ends = c_.end_tokens();
  if (ends.size() > 1) config_["eos_token_id"] = ends;
  return {};
}

Status HfConversion::choose_type() {
  std::map<const Type*, std::size_t> bytes;
  for (const auto& [name, tensor] : c_.tensors()) {
    if (tensor.type != f32() && tensor.type != f16() && tensor.type != bf16()) {
      return file_error(Code::kUnsupported, fmt::format("{}: {}", c_.path(), name),
                        "a Hugging Face folder cannot hold this type", "F32, F16 or BF16",
                        std::string(tensor.type->name));
    }
    bytes[tensor.type] += tensor.bytes.size();
  }
  main_ = std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) {
            return a.second < b.second;
          })->first;
  return {};
}

Status HfConversion::plan_one(const std::string& name, const Tensor& tensor) {
  const std::string where = fmt::format("{}: {}", c_.path(), name);
  if (name == "rope_freqs.weight") return {};
  if (!gguf_name(name)) return file_error(Code::kUnsupported, where, "no published name is known for this tensor");
  const auto ends = [&](std::string_view tail) { return name.ends_with(tail); };
  if (ends(".self_attn.v_b_proj.weight")) return {};  // goes with k_b
  if (ends(".self_attn.k_b_proj.weight")) {
    const std::string stem = name.substr(0, name.size() - std::string_view("k_b_proj.weight").size());
    if (c_.find(stem + "kv_b_proj.weight") != nullptr) return {};
    const Tensor* v = c_.find(stem + "v_b_proj.weight");
    if (v == nullptr || v->type != tensor.type || v->shape.size() != 3 || tensor.shape.size() != 3 ||
        v->dim(0) != tensor.dim(0) || v->dim(2) != tensor.dim(1)) {
      return corrupt(where, "k_b and v_b do not belong together", {}, shape_text(tensor.shape));
    }
    add(stem + "kv_b_proj.weight", tensor.type, {tensor.dim(0) * (tensor.dim(2) + v->dim(1)), tensor.dim(1)},
        [&tensor, v](const Sink& sink) { return sink(join_kv_b(tensor, *v)); });
    return {};
  }
  const bool q = name.find(".self_attn.q_proj.") != name.npos, k = name.find(".self_attn.k_proj.") != name.npos;
  if (config_.contains("rope_pairs") && (q || k)) {
    const int64_t heads = config_.value(q ? "num_attention_heads" : "num_key_value_heads", int64_t{0});
    if (heads <= 0 || tensor.shape.empty() || tensor.dim(0) % (2 * heads) != 0)
      return corrupt(where, "rows do not divide into heads", {}, shape_text(tensor.shape));
    const bool widened = tensor.shape.size() == 1 && tensor.type == f32() && main_ != f32();
    auto paired = [&tensor, heads] { return pair_rows(tensor, heads, false); };
    if (widened && !in_type(tensor, *main_).empty()) {
      add(name, main_, tensor.shape, [paired, &tensor, type = main_](const Sink& sink) {
        const TensorBytes bytes = paired();
        return sink(in_type({tensor.type, tensor.shape, bytes}, *type));
      });
    } else {
      add(name, tensor.type, tensor.shape, [paired](const Sink& sink) { return sink(paired()); });
    }
    return {};
  }
  // GGUF wants vectors and routers in F32; where the model's own type holds the same values, that is what was
  // published.
  const bool widened = tensor.type == f32() && main_ != f32() &&
                       (tensor.shape.size() <= 1 || ends(".mlp.gate.weight")) && !ends(".e_score_correction_bias");
  if (widened && !in_type(tensor, *main_).empty()) {
    add(name, main_, tensor.shape, [&tensor, type = main_](const Sink& sink) { return sink(in_type(tensor, *type)); });
  } else {
    add(name, tensor.type, tensor.shape, [&tensor](const Sink& sink) { return sink(tensor.bytes); });
  }
  return {};
}

// rope_freqs.weight holds the quotients of llama3 scaling; finds the words that give them.
Status HfConversion::rope() {
  const Tensor* stored = c_.find("rope_freqs.weight");
  if (stored == nullptr) return {};
  const std::string where = fmt::format("{}: rope_freqs.weight", c_.path());
  SONDE_TRY(const std::vector<float> factors, c_.vector("rope_freqs.weight", stored->count()));
  const double theta = config_.value("rope_theta", 10000.0);
  const double factor = *std::max_element(factors.begin(), factors.end());
  constexpr double kLow = 1, kHigh = 4, kTolerance = 2e-5;  // the converter computes in F32
  for (int power = 13, step = 0; step < 40;
       ++step, power += step % 2 != 0 ? step : -step) {  // 8192 first, then further away
    if (power < 4 || power > 24) continue;
    const double original = std::ldexp(1.0, power);
    const auto expected =
        llama3_factors(theta, 2 * static_cast<int64_t>(factors.size()), factor, kLow, kHigh, original);
    const bool equal = std::equal(factors.begin(), factors.end(), expected.begin(),
                                  [](float a, float b) { return std::abs(a - b) <= kTolerance * std::abs(b); });
    if (!equal) continue;
    config_["rope_scaling"] = {{"rope_type", "llama3"},
                               {"factor", factor},
                               {"low_freq_factor", kLow},
                               {"high_freq_factor", kHigh},
                               {"original_max_position_embeddings", static_cast<int64_t>(original)}};
    config_[kRopeFactorsWord] = factors;  // to the bit; the words above agree to five digits
    return {};
  }
  return file_error(Code::kUnsupported, where, "config.json has no words for these rotary factors");
}

Status HfConversion::write_weights(const fs::path& folder, const Progress& progress) {
  std::vector<std::vector<const PlannedTensor*>> shards(1);
  int64_t in_shard = 0, total = 0, done = 0;
  for (const PlannedTensor& t : planned_) {
    SONDE_TRY(const int64_t bytes, tensor_bytes(*t.type, t.shape, t.name));
    if (in_shard > 0 && in_shard + bytes > kShardBytes) shards.emplace_back(), in_shard = 0;
    shards.back().push_back(&t);
    in_shard += bytes;
    total += bytes;
  }
  Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", Json::object()}};
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shards.size() == 1 ? "model.safetensors"
                                                : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    SafetensorsWriter writer;
    writer.set_metadata("format", "pt");
    // Wide types first, so that every tensor is aligned to its type; otherwise as planned (the pointers lie in that
    // order).
    std::sort(shards[i].begin(), shards[i].end(), [](const PlannedTensor* a, const PlannedTensor* b) {
      return a->type->bytes != b->type->bytes ? a->type->bytes > b->type->bytes : a < b;
    });
    for (const PlannedTensor* t : shards[i]) {
      writer.declare(t->name, *t->type, t->shape);
      index["weight_map"][t->name] = name;
    }
    SONDE_CHECK(writer.begin((folder / name).string()));
    const Sink sink = [&](std::span<const std::byte> bytes) -> Status {
      SONDE_CHECK(writer.write(bytes));
      done += static_cast<int64_t>(bytes.size());
      if (progress && !progress(done, total)) return file_error(Code::kCancelled, folder.string(), "stopped");
      return {};
    };
    for (const PlannedTensor* t : shards[i]) SONDE_CHECK(t->emit(sink));
    SONDE_CHECK(writer.finish());
  }
  if (shards.size() == 1) return {};
  return write_text((folder / "model.safetensors.index.json").string(), index.dump(2));
}

Status HfConversion::write_texts(const fs::path& folder) {
  const auto put = [&](const char* name, const Json& json) {
    return write_text((folder / name).string(), json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  };
  const auto& vocabulary = c_.tokenizer().gguf;
  if (vocabulary && !vocabulary->tokens.empty()) {
    SONDE_TRY(const Json tokenizer, tokenizer_json(c_));
    SONDE_TRY(const Json config, tokenizer_config_json(c_));
    SONDE_CHECK(put("tokenizer.json", tokenizer));
    SONDE_CHECK(put("tokenizer_config.json", config));
  }
  Json generation = c_.generation_config().is_object() ? c_.generation_config() : Json::object();
  if (c_.bos_token()) generation["bos_token_id"] = *c_.bos_token();
  const auto& ends = c_.end_tokens();
  if (!ends.empty()) generation["eos_token_id"] = ends.size() == 1 ? Json(ends[0]) : Json(ends);
  SONDE_CHECK(put("generation_config.json", generation));
  return put("config.json", config_);
}

// Everything is written to a folder beside the wanted one, which then takes its name.
Status HfConversion::write(const std::string& path, const Progress& progress) {
  std::error_code error;
  fs::path folder = fs::path(path).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();
  if (fs::exists(folder, error) && !(fs::is_directory(folder, error) && fs::is_empty(folder, error))) {
    return file_error(Code::kInvalid, path, "the folder is there already and not empty");
  }
  const fs::path temporary = fmt::format("{}.tmp-{}", folder.string(), ::getpid());
  if (!fs::create_directories(temporary, error) || error) {
    return file_error(Code::kIo, temporary.string(), "the folder cannot be made", {},
                      error ? error.message() : "it is there already");
  }
  Status status = write_weights(temporary, progress);
  if (status.ok()) status = write_texts(temporary);
  if (status.ok()) {
    fs::rename(temporary, folder, error);
    if (error) status = file_error(Code::kIo, path, "the folder cannot be put in place", {}, error.message());
  }
  if (!status.ok()) fs::remove_all(temporary, error);
  return status;
}

}  // namespace

Status convert_to_hf(const Checkpoint& checkpoint, const std::string& folder, const Progress& progress) {
  try {
    HfConversion conversion(checkpoint);
    SONDE_CHECK(conversion.prepare());
    return conversion.write(folder, progress);
  } catch (const std::exception& e) {  // nlohmann and filesystem
    return file_error(Code::kInvalid, checkpoint.path(), "the conversion failed", {}, e.what());
  }
}

}  // namespace sonde
