#include "files/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "files/bounds.h"
#include "files/convert_parts.h"
#include "files/error.h"
#include "files/folder.h"
#include "files/gguf.h"
#include "files/gguf_config.h"
#include "files/gguf_tensors.h"
#include "files/json.h"
#include "files/map.h"
#include "files/safetensors.h"

namespace sonde {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int64_t kMaxText = int64_t{64} << 20;  // config.json and its like; the longest published one is 2 MB
constexpr int64_t kMaxTokenizer = int64_t{1} << 30;
constexpr uint64_t kShownArray = 16;
constexpr std::string_view kIndex = "model.safetensors.index.json", kSingle = "model.safetensors";

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

Result<Json> read_object(const fs::path& path) {
  if (!is_file(path)) return Json();
  SONDE_TRY(const std::string text, read_text(path.string(), kMaxText));
  SONDE_TRY(Json json, parse_json(text, path.string()));
  if (!json.is_object()) return corrupt(path.string(), "not a JSON object");
  return json;
}

}  // namespace

struct Checkpoint::Impl {
  Format format = Format::kSafetensors;
  std::string path;
  Json config, generation_config;
  std::map<std::string, Tensor, std::less<>> tensors;
  TokenizerSource tokenizer;
  std::string chat_template;
  std::vector<int32_t> end_tokens;
  std::optional<int32_t> bos_token;
  std::optional<bool> add_bos;
  int64_t file_bytes = 0;
  std::vector<WeightFile> weight_files;
  std::vector<std::shared_ptr<const MappedFile>> files;
  std::vector<Gguf> gguf;

  void add_weight_file(const MappedFile& file, std::size_t header_bytes);
  Status open_folder(const fs::path& folder, const std::optional<fs::path>& weights);
  Status add_safetensors(const fs::path& file, const std::map<std::string, std::string>* index);
  Status add_shards(const fs::path& index);
  Status read_tokenizer(const fs::path& folder);
  Status open_gguf(const std::string& file);
  void take_rope_scaling(const Gguf& gguf);
};

void Checkpoint::Impl::add_weight_file(const MappedFile& file, std::size_t header_bytes) {
  const auto bytes = static_cast<int64_t>(file.bytes().size());
  weight_files.push_back({file.path(), bytes, file.modified(), file.text().substr(0, header_bytes)});
  file_bytes += bytes;
}

// --- Hugging Face folders ---

Status Checkpoint::Impl::add_safetensors(const fs::path& file, const std::map<std::string, std::string>* index) {
  SONDE_TRY(Safetensors shard, open_safetensors(file.string()));
  for (auto& [name, tensor] : shard.tensors) {
    // What the index assigns to another file, or does not know, is left alone.
    if (index != nullptr) {
      const auto at = index->find(name);
      if (at == index->end() || at->second != file.filename()) continue;
    }
    tensors.emplace(name, std::move(tensor));
  }
  add_weight_file(*shard.file, shard.header_bytes);
  files.push_back(std::move(shard.file));
  return {};
}

Status Checkpoint::Impl::add_shards(const fs::path& index) {
  SONDE_TRY(const std::string text, read_text(index.string(), kMaxText));
  SONDE_TRY(const auto weights, parse_safetensors_index(text, index.string()));
  std::set<std::string> names;
  for (const auto& [name, file] : weights) names.insert(file);
  for (const std::string& file : names) {
    if (!is_file(index.parent_path() / file)) {
      return file_error(Code::kNotFound, index.string(), "a shard that the index names is missing", file, {},
                        "the download may be incomplete");
    }
    SONDE_CHECK(add_safetensors(index.parent_path() / file, &weights));
  }
  for (const auto& [name, file] : weights) {
    if (!tensors.contains(name))
      return corrupt((index.parent_path() / file).string(), "a tensor that the index names is missing", name);
  }
  return {};
}

Status Checkpoint::Impl::read_tokenizer(const fs::path& folder) {
  if (const fs::path file = folder / "tokenizer.json"; is_file(file)) {
    SONDE_TRY(auto mapped, MappedFile::open(file.string()));
    if (mapped->text().size() > static_cast<std::size_t>(kMaxTokenizer)) {
      return file_error(Code::kTooLarge, file.string(), "the file is too large for a tokenizer");
    }
    tokenizer.tokenizer_json = mapped->text();
    files.push_back(std::move(mapped));
  }
  if (const fs::path file = folder / "tokenizer_config.json"; is_file(file)) {
    SONDE_TRY(tokenizer.tokenizer_config, read_text(file.string(), kMaxText));
    SONDE_TRY(TokenizerConfig parsed, parse_tokenizer_config(tokenizer.tokenizer_config, file.string()));
    chat_template = std::move(parsed.chat_template);
    add_bos = parsed.add_bos;
  }
  if (const fs::path file = folder / "chat_template.jinja"; is_file(file)) {
    SONDE_TRY(chat_template, read_text(file.string(), kMaxText));
  }
  return {};
}

Status Checkpoint::Impl::open_folder(const fs::path& folder, const std::optional<fs::path>& weights) {
  SONDE_TRY(config, read_object(folder / "config.json"));
  SONDE_TRY(generation_config, read_object(folder / "generation_config.json"));
  SONDE_CHECK(read_tokenizer(folder));
  if (weights && weights->filename() == kIndex)
    SONDE_CHECK(add_shards(*weights));
  else if (weights)
    SONDE_CHECK(add_safetensors(*weights, nullptr));
  else if (is_file(folder / kSingle))
    SONDE_CHECK(add_safetensors(folder / kSingle, nullptr));
  else if (is_file(folder / kIndex))
    SONDE_CHECK(add_shards(folder / kIndex));
  else if (tokenizer.tokenizer_json.empty()) {
    return file_error(Code::kNotFound, folder.string(), "there is no checkpoint in this folder",
                      "model.safetensors, model.safetensors.index.json or tokenizer.json", {},
                      "a GGUF file is opened by its own name");
  }
  if (!tensors.empty() && config.is_null()) {
    return file_error(Code::kNotFound, folder.string(), "the weights have no config.json beside them");
  }
  for (const Json* json : {&config, &generation_config}) {
    add_end_tokens(*json, end_tokens);
    if (json->is_object() && json->contains("bos_token_id") && !bos_token)
      bos_token = token_id(json->at("bos_token_id"));
  }
  return {};
}

// --- GGUF ---

Status Checkpoint::Impl::open_gguf(const std::string& file) {
  format = Format::kGguf;
  SONDE_TRY(gguf, open_gguf_set(file));
  const Gguf& first = gguf.front();
  // The tensors of all parts count when the config is made; the keys are those of the first.
  Gguf whole = first;
  for (std::size_t i = 1; i < gguf.size(); ++i) {
    whole.tensors.insert(whole.tensors.end(), gguf[i].tensors.begin(), gguf[i].tensors.end());
  }
  SONDE_TRY(config, gguf_config(whole, file));
  generation_config = gguf_generation_config(first);
  SONDE_CHECK(add_gguf_tensors(whole, config, file, tensors));
  take_rope_scaling(first);
  SONDE_TRY(tokenizer.gguf, gguf_vocabulary(first, file));
  for (const Gguf& part : gguf) add_weight_file(*part.file, part.header_bytes);
  if (const GgufValue* text = first.find("tokenizer.chat_template"); text != nullptr && text->text()) {
    chat_template = to_utf8(*text->text());
  }
  if (!tokenizer.gguf) {  // a model that was converted without one
    add_end_tokens(config, end_tokens);
    if (config.is_object() && config.contains("bos_token_id")) bos_token = token_id(config["bos_token_id"]);
    return {};
  }
  const auto& ids = tokenizer.gguf->ids;
  for (const char* word : {"eos", "eot", "eom"}) {
    const auto at = ids.find(word);
    if (at != ids.end() && std::find(end_tokens.begin(), end_tokens.end(), at->second) == end_tokens.end()) {
      end_tokens.push_back(at->second);
    }
  }
  if (const auto at = ids.find("bos"); at != ids.end()) bos_token = at->second;
  add_bos = tokenizer.gguf->add_bos;
  return {};
}

// A file that was converted here says llama3 scaling in the words of config.json too: those are exact. They count only
// while rope_freqs.weight is what they give.
void Checkpoint::Impl::take_rope_scaling(const Gguf& gguf_file) {
  const GgufValue* value = gguf_file.find(kRopeScalingKey);
  const auto stored = tensors.find("rope_freqs.weight");
  if (value == nullptr || !value->text() || stored == tensors.end() || !config.is_object()) return;
  const Result<Json> parsed = parse_json(*value->text(), kRopeScalingKey);
  if (!parsed.ok() || !parsed->is_object()) return;
  const auto number = [&](const char* key, double otherwise) {
    const auto at = parsed->find(key);
    return at != parsed->end() && at->is_number() ? at->get<double>() : otherwise;
  };
  const std::vector<float> factors = llama3_factors(
      config.value("rope_theta", 10000.0), 2 * stored->second.count(), number("factor", 0),
      number("low_freq_factor", 1), number("high_freq_factor", 4), number("original_max_position_embeddings", 0));
  const auto expected = std::as_bytes(std::span(factors));
  if (!std::equal(expected.begin(), expected.end(), stored->second.bytes.begin(), stored->second.bytes.end())) return;
  config["rope_scaling"] = *parsed;
  tensors.erase(stored);
}

// --- the checkpoint ---

Checkpoint::Checkpoint() : impl_(std::make_unique<Impl>()) {}
Checkpoint::~Checkpoint() = default;

Result<std::unique_ptr<Checkpoint>> Checkpoint::open(const std::string& path) {
  std::unique_ptr<Checkpoint> out(new Checkpoint);
  Impl& impl = *out->impl_;
  impl.path = path;
  const fs::path file(path);
  if (is_folder(file)) {
    SONDE_CHECK(impl.open_folder(file, std::nullopt));
    return out;
  }
  if (!is_file(file)) return file_error(Code::kNotFound, path, "there is no such file or folder");
  const std::string name = file.filename().string();
  const fs::path folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
  if (name.ends_with(".safetensors") || name == kIndex) {
    // One of several files stands for them all.
    const bool shard = name.find("-of-") != std::string::npos && is_file(folder / kIndex);
    SONDE_CHECK(impl.open_folder(folder, shard ? folder / kIndex : file));
  } else if (name == "tokenizer.json" || name == "config.json") {
    SONDE_CHECK(impl.open_folder(folder, std::nullopt));
  } else {
    SONDE_CHECK(impl.open_gguf(path));
  }
  return out;
}

Checkpoint::Format Checkpoint::format() const { return impl_->format; }
const std::string& Checkpoint::path() const { return impl_->path; }
const Json& Checkpoint::config() const { return impl_->config; }
const Json& Checkpoint::generation_config() const { return impl_->generation_config; }
const std::map<std::string, Tensor, std::less<>>& Checkpoint::tensors() const { return impl_->tensors; }
const TokenizerSource& Checkpoint::tokenizer() const { return impl_->tokenizer; }
const std::string& Checkpoint::chat_template() const { return impl_->chat_template; }
const std::vector<int32_t>& Checkpoint::end_tokens() const { return impl_->end_tokens; }
std::optional<int32_t> Checkpoint::bos_token() const { return impl_->bos_token; }
std::optional<bool> Checkpoint::add_bos() const { return impl_->add_bos; }
int64_t Checkpoint::file_bytes() const { return impl_->file_bytes; }
const std::vector<Checkpoint::WeightFile>& Checkpoint::weight_files() const { return impl_->weight_files; }

const Tensor* Checkpoint::find(std::string_view name) const {
  const auto at = impl_->tensors.find(name);
  return at == impl_->tensors.end() ? nullptr : &at->second;
}

Json Checkpoint::gguf_metadata() const {
  if (impl_->format != Format::kGguf) return Json();
  Json out = Json::object();
  for (const auto& [key, value] : impl_->gguf.front().metadata) out[key] = value.json(kShownArray);
  return out;
}

Result<Matrix> Checkpoint::matrix(std::string_view name, int64_t rows, int64_t cols) const {
  const std::string where = fmt::format("{}: {}", impl_->path, name);
  const Tensor* tensor = find(name);
  if (tensor == nullptr) return file_error(Code::kNotFound, where, "the tensor is missing");
  if (tensor->shape != std::vector<int64_t>{rows, cols}) {
    return corrupt(where, "the tensor has another shape", shape_text({rows, cols}), shape_text(tensor->shape));
  }
  if (tensor->type->unpack == nullptr) {
    return file_error(Code::kUnsupported, where, "not a type that weights can have", {},
                      std::string(tensor->type->name));
  }
  Matrix m;
  m.type = tensor->type;
  m.data = tensor->bytes.data();
  m.rows = rows;
  m.cols = cols;
  m.row_bytes = tensor->type->row_bytes(cols);
  if (tensor->type->safetensors != "F8_E4M3") return m;

  const Tensor* scales = find(std::string(name) + "_scale_inv");
  if (scales == nullptr && name.ends_with("weight")) {
    scales = find(std::string(name.substr(0, name.size() - std::string_view("weight").size())) + "scale");
  }
  if (scales == nullptr) return m;
  SONDE_TRY(m.scale_block, scale_block(impl_->config, impl_->path));
  const auto blocks = [&](int64_t n) { return (n + m.scale_block - 1) / m.scale_block; };
  const std::vector<int64_t> expected = {blocks(rows), blocks(cols)};
  if (scales->shape != expected)
    return corrupt(where, "the scales have another shape", shape_text(expected), shape_text(scales->shape));
  const std::string_view dtype = scales->type->safetensors;
  if (dtype != "F32" && dtype != "BF16" && dtype != "F8_E8M0") {
    return file_error(Code::kUnsupported, where, "scales of a type that is not known", "F32, BF16 or F8_E8M0",
                      std::string(dtype));
  }
  m.scales = scales->bytes.data();
  m.scale_type = scales->type;
  m.scale_cols = blocks(cols);
  return m;
}

Result<std::vector<float>> Checkpoint::vector(std::string_view name, int64_t count) const {
  const std::string where = fmt::format("{}: {}", impl_->path, name);
  const Tensor* tensor = find(name);
  if (tensor == nullptr) return file_error(Code::kNotFound, where, "the tensor is missing");
  const bool flat = std::count_if(tensor->shape.begin(), tensor->shape.end(), [](int64_t d) { return d != 1; }) <= 1;
  if (!flat || tensor->count() != count) {
    return corrupt(where, "the tensor has another shape", shape_text({count}), shape_text(tensor->shape));
  }
  if (tensor->type->unpack == nullptr) {
    return file_error(Code::kUnsupported, where, "not a type that weights can have", {},
                      std::string(tensor->type->name));
  }
  std::vector<float> out(static_cast<std::size_t>(count));
  tensor->type->unpack(tensor->bytes.data(), count / tensor->type->block, out.data());
  return out;
}

}  // namespace sonde
