// sonde inspect: what a checkpoint is, without loading it; --check looks for NaN and Inf.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/common_flags.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/survey.h"
#include "cli/text_model.h"
#include "model/families/family.h"

namespace sonde {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  ModelFlags model;
  std::string dialect;
  int threads = 0;
  bool check = false, json = false;
};

struct Bad {
  std::string tensor;
  int64_t nan = 0, inf = 0, first = -1;  // `first`: index of the first of them
};

// Every value of every tensor that has values as numbers.
Result<std::vector<Bad>> scan(const Checkpoint& checkpoint, ThreadPool& pool) {
  int64_t total = 0, done = 0;
  for (const auto& [name, tensor] : checkpoint.tensors()) total += static_cast<int64_t>(tensor.bytes.size());
  const Interrupt interrupt;
  ProgressLine progress("checking", total, "bytes");
  std::vector<Bad> bad;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    const Type& type = *tensor.type;
    const int64_t blocks = type.unpack ? tensor.count() / type.block : 0;
    constexpr int64_t kValues = 1 << 16;  // unpacked at a time
    const int64_t step = std::max<int64_t>(1, kValues / type.block);
    std::atomic<int64_t> nan = 0, inf = 0, first = INT64_MAX;
    const int64_t slab = step * 16 * pool.size();  // progress and Ctrl-C are looked at in between
    for (int64_t begin = 0; begin < blocks; begin += slab) {
      pool.share(std::min(slab, blocks - begin), step, [&](int64_t from, int64_t to, int) {
        std::vector<float> values(static_cast<std::size_t>((to - from) * type.block));
        const int64_t at = begin + from;
        type.unpack(tensor.bytes.data() + at * type.bytes, to - from, values.data());
        for (std::size_t i = 0; i < values.size(); ++i) {
          if (std::isfinite(values[i])) continue;
          ++(std::isnan(values[i]) ? nan : inf);
          const int64_t index = at * type.block + static_cast<int64_t>(i);
          for (int64_t seen = first; index < seen && !first.compare_exchange_weak(seen, index);) {}
        }
      });
      progress.update(done + std::min(begin + slab, blocks) * type.bytes);
      if (Interrupt::requested()) return stopped();
    }
    done += static_cast<int64_t>(tensor.bytes.size());
    if (nan + inf > 0) bad.push_back({name, nan, inf, first});
  }
  return bad;
}

Json tokenizer_json(const Tokenizer* tokenizer) {
  if (!tokenizer) return nullptr;
  Json json = {{"kind", tokenizer->kind()},
               {"size", tokenizer->vocab_size()},
               {"adds_bos", tokenizer->adds_bos()},
               {"bos", nullptr},
               {"eos", nullptr}};
  if (tokenizer->bos()) json["bos"] = *tokenizer->bos();
  if (tokenizer->eos()) json["eos"] = *tokenizer->eos();
  return json;
}

Result<ModelConfig> can_run(const Checkpoint& checkpoint) {
  if (checkpoint.tensors().empty())
    return Error{.code = Code::kNotFound, .what = "there are no weights, a vocabulary alone"};
  return read_model_config(checkpoint);
}

// `config`: what config.json says; `runs`: the same where the model can be run, else why not.
Json report(const Checkpoint& checkpoint, const Survey& s, const Result<ModelConfig>& config,
            const Result<ModelConfig>& runs) {
  const bool has_config = !checkpoint.config().is_null();
  Json types = Json::object();
  for (const auto& [name, sum] : s.types) types[name] = {{"tensors", sum.tensors}, {"bytes", sum.bytes}};
  Json json = {
      {"path", checkpoint.path()},
      {"format", checkpoint.format() == Checkpoint::Format::kGguf ? "gguf" : "safetensors"},
      {"model_type", has_config ? Json(checkpoint.config().value("model_type", nlohmann::json())) : Json(nullptr)},
      {"parameters", s.parameters},
      {"active_parameters", s.active_parameters},
      {"mtp_parameters", s.mtp_parameters},
      {"tensors", {{"count", s.tensors}, {"bytes", s.bytes}, {"types", types}}},
      {"file_bytes", checkpoint.file_bytes()}};
  json["context"] = config.ok() ? Json(config->max_position_embeddings) : Json(nullptr);
  if (runs.ok()) {
    const ModelConfig& c = *runs;
    const int64_t token = s.layout.token_bytes();
    json["memory"] = {{"weight_bytes", s.bytes},
                      {"kv_bytes_per_token", token},
                      {"kv_bytes_per_1k_tokens", token * 1024},
                      {"kv_bytes_full_context", token * c.max_position_embeddings}};
    json["runs"] = true;
  } else {
    json["memory"] = nullptr, json["runs"] = false;
    json["why_not"] = runs.error().message();
  }
  return json;
}

std::string config_line(const ModelConfig& c) {
  std::string line =
      fmt::format("{} layers, width {}, {} heads, ", c.num_hidden_layers, c.hidden_size, c.num_attention_heads);
  line += c.is_mla() ? fmt::format("latent attention (rank {} + {} rotary{})", c.kv_lora_rank, c.qk_rope_head_dim,
                                   c.q_lora_rank ? fmt::format(", queries by rank {}", c.q_lora_rank) : "")
                     : fmt::format("{} key heads of {}", c.num_key_value_heads, c.head_dim);
  if (c.n_routed_experts > 0)
    line += fmt::format(", {} of {} experts of {} and {} shared", c.num_experts_per_tok, c.n_routed_experts,
                        c.moe_intermediate_size, c.n_shared_experts);
  else
    line += fmt::format(", MLP {}", c.intermediate_size);
  return line + fmt::format(", vocabulary {}", c.vocab_size);
}

void print_report(const Checkpoint& checkpoint, const Survey& s, const Result<ModelConfig>& config, const Json& json) {
  const auto line = [](const char* name, const std::string& text) {
    print(fmt::format("{:<12} {}\n", name, one_line(text)));
  };
  const auto size = [](int64_t n) { return bytes_text(static_cast<double>(n)); };
  std::string what = checkpoint.format() == Checkpoint::Format::kGguf ? "GGUF" : "safetensors";
  if (json["model_type"].is_string()) what = json["model_type"].get<std::string>() + ", " + what;
  line("model", what);
  line("path", checkpoint.path());
  if (s.tensors > 0) {
    std::string parameters = count_text(static_cast<double>(s.parameters));
    if (s.active_parameters < s.parameters)
      parameters += ", " + count_text(static_cast<double>(s.active_parameters)) + " active";
    if (s.mtp_parameters > 0)
      parameters += ", and " + count_text(static_cast<double>(s.mtp_parameters)) + " in the MTP layer";
    line("parameters", parameters);
  }
  if (config.ok()) line("shape", config_line(*config));
  for (const auto& [name, sum] : s.types)
    line("tensors", fmt::format("{:<8} {:>6} tensors, {}", name, sum.tensors, size(sum.bytes)));
  const Json& tokenizer = json["tokenizer"];
  line("tokenizer", tokenizer.is_null() ? "none"
                                        : fmt::format("{}, {} tokens", tokenizer["kind"].get<std::string>(),
                                                      tokenizer["size"].get<int64_t>()));
  line("dialect", json["dialect"].is_null() ? "none" : json["dialect"].get<std::string>());
  if (config.ok()) line("context", fmt::format("{} tokens", config->max_position_embeddings));
  if (json["runs"] == true) {
    const int64_t token = json["memory"]["kv_bytes_per_token"];
    line("memory", fmt::format("{} of weights, {} for 1,024 tokens of context, {} for all of it", size(s.bytes),
                               size(token * 1024), size(token * config->max_position_embeddings)));
  } else {
    line("runs", "no: " + json["why_not"].get<std::string>());
  }
}

Result<int> inspect(const Options& options) {
  SONDE_TRY(const std::string path, options.model.path());
  TextModel model;
  SONDE_TRY(model.checkpoint, Checkpoint::open(path));
  const Checkpoint& checkpoint = *model.checkpoint;
  // A vocabulary that this build cannot read is worth a line, not a refusal.
  const TokenizerSource& source = checkpoint.tokenizer();
  if (!source.tokenizer_json.empty() || source.gguf) {
    if (auto opened = Tokenizer::open(checkpoint); opened.ok())
      model.tokenizer = std::move(*opened);
    else
      notice("the tokenizer cannot be used: " + opened.error().message());
  }
  Json dialect = nullptr;
  if (!options.dialect.empty() || !checkpoint.chat_template().empty()) {
    if (const auto chosen = open_dialect(model, options.dialect); chosen.ok())
      dialect = (*chosen)->name();
    else
      notice(chosen.error().message());
  }

  const Result<ModelConfig> config = ModelConfig::from_json(checkpoint.config());
  const Survey s = survey(checkpoint, config.ok() ? &*config : nullptr, {.exact = checkpoint.file_bytes() < kFastFrom});
  const Result<ModelConfig> runs = can_run(checkpoint);
  Json json = report(checkpoint, s, config, runs);
  json["tokenizer"] = tokenizer_json(model.tokenizer.get());
  json["dialect"] = dialect;
  json["end_tokens"] = checkpoint.end_tokens();

  std::vector<Bad> bad;
  if (options.check) {
    ThreadPool pool(options.threads);
    SONDE_TRY(bad, scan(checkpoint, pool));
    Json list = Json::array();
    for (const Bad& b : bad) list.push_back({{"tensor", b.tensor}, {"nan", b.nan}, {"inf", b.inf}, {"first", b.first}});
    json["check"] = {{"tensors", s.tensors}, {"bad", list}};
  }
  if (options.json) {
    json["config"] = checkpoint.config();
    json["metadata"] = checkpoint.gguf_metadata();
    print_line(json);
  } else {
    print_report(checkpoint, s, config, json);
    if (options.check) print(fmt::format("{:<12} {}\n", "check", bad.empty() ? "no NaN and no Inf" : "not clean"));
  }
  if (bad.empty()) return kOk;
  std::string names;
  for (const Bad& b : bad) {
    if (!names.empty()) names += ", ";
    if (names.size() > 2000) {
      names += "...";
      break;
    }
    names += fmt::format("{} ({} NaN, {} Inf, the first at {})", b.tensor, b.nan, b.inf, b.first);
  }
  return Error{
      .code = Code::kCorrupt, .what = fmt::format("{} tensors hold NaN or Inf: {}", bad.size(), names), .where = path};
}

Run setup(Args& args) {
  auto options = std::make_shared<Options>();
  options->model.declare(args);
  args.flag("--check", options->check, "look at every weight for NaN and Inf; exit code 1 where there are any");
  args.option("--dialect", options->dialect, "a dialect by name, instead of the model's own");
  args.option("-t,--threads", options->threads, "threads for --check (default: as many as the process may use)");
  declare_json(args, options->json);
  return [options] {
    if (options->threads < 0 || options->threads > 4096) return usage_error("--threads is out of range 1 to 4096");
    return finish(inspect(*options));
  };
}

}  // namespace

extern const Command cmd_inspect = {"inspect", "MODEL [--check] [--json]",
                                    "what a checkpoint is, and whether it is whole",
                                    "  sonde inspect DeepSeek-V2-Lite-Chat/\n"
                                    "  sonde inspect model-00001-of-00009.gguf --json\n"
                                    "  sonde inspect model.gguf --check\n",
                                    setup};

}  // namespace sonde
