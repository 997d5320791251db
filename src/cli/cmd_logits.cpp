// sonde logits: what the model computes for given ids, as a safetensors file.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/direct.h"
#include "cli/interrupt.h"
#include "cli/out_file.h"
#include "cli/progress.h"
#include "files/safetensors.h"
#include "kernels/kernels.h"

namespace sonde {
namespace {

struct Options {
  ModelFlags model;
  RunFlags run;
  std::string ids;
  OutFile out;
  bool hidden = false, json = false;
};

constexpr int64_t kChunk = 8 * kPageTokens;  // tokens a step: bounds the logits held at once


// What --hidden asks for, gathered over the steps.
struct Inside {
  std::vector<std::vector<float>> hidden;     // [tokens, hidden_size] each
  std::vector<std::vector<int32_t>> experts;  // [tokens, k] each; empty: a dense layer

  void add(const Probe& probe) {
    hidden.resize(probe.hidden.size()), experts.resize(probe.experts.size());
    for (std::size_t i = 0; i < hidden.size(); ++i)
      hidden[i].insert(hidden[i].end(), probe.hidden[i].begin(), probe.hidden[i].end());
    for (std::size_t i = 0; i < experts.size(); ++i)
      experts[i].insert(experts[i].end(), probe.experts[i].begin(), probe.experts[i].end());
  }
};

Result<int> logits(const Options& options) {
  SONDE_TRY(const std::string path, options.model.path());
  SONDE_CHECK(options.run.check());
  SONDE_CHECK(options.out.check(FileKind::kSafetensors));
  SONDE_TRY(const std::vector<int32_t> ids, read_ids(options.ids));
  RunFlags run = options.run;
  run.exact = true;  // what this command is for
  SONDE_TRY(DirectModel direct, open_direct(path, run));
  SONDE_CHECK(check_ids(direct, ids));
  Model& model = *direct.model;
  const ModelConfig& config = model.config();
  const auto tokens = static_cast<int64_t>(ids.size());
  SONDE_TRY(const Pages pages, Pages::make(model.kv_layout(), tokens));
  const bool draft = model.has_mtp() && tokens > 1;
  std::vector<int64_t> moe_layers;
  for (int64_t layer = 0; layer < config.num_hidden_layers && options.hidden; ++layer)
    if (config.is_moe_layer(layer)) moe_layers.push_back(layer);

  SafetensorsWriter writer;
  writer.declare("logits", *f32(), {tokens, config.vocab_size});
  if (draft) writer.declare("mtp_logits", *f32(), {tokens - 1, config.vocab_size});
  if (options.hidden) {
    for (int64_t i = 0; i <= config.num_hidden_layers; ++i)
      writer.declare(fmt::format("hidden.{}", i), *f32(), {tokens, config.hidden_size});
    writer.declare("final", *f32(), {tokens, config.hidden_size});
    for (const int64_t layer : moe_layers)
      writer.declare(fmt::format("experts.{}", layer), *i32(), {tokens, config.num_experts_per_tok});
  }
  SONDE_CHECK(writer.begin(options.out.path));

  const Interrupt interrupt;
  const ThreadPool::Awake awake(*direct.pool);
  ProgressLine progress("logits", draft ? 2 * tokens - 1 : tokens, "tokens");
  Inside inside;
  std::vector<float> final;  // [tokens, hidden_size]
  ForwardResult step;
  for (int64_t start = 0; start < tokens; start += kChunk) {
    const auto chunk = std::span(ids).subspan(size_t(start), size_t(std::min(kChunk, tokens - start)));
    const SequenceChunk sequence{chunk, start, pages.all(), options.run.reproducible, Logits::kAll};
    Probe probe;
    if (!model.forward(*direct.pool, std::span(&sequence, 1), step, options.hidden ? &probe : nullptr,
                       watched(progress, start, static_cast<int64_t>(chunk.size()))))
      return stopped();
    if (options.hidden) inside.add(probe);
    if (options.hidden || draft) final.insert(final.end(), step.final.begin(), step.final.end());
    if (!all_finite(step.logits.data(), static_cast<int64_t>(step.logits.size())))
      return Error{.code = Code::kCorrupt,
                   .what = fmt::format("logits of tokens {} to {} are not finite", start,
                                       start + static_cast<int64_t>(chunk.size()) - 1),
                   .where = path,
                   .hint = "`sonde inspect --check` looks for NaN and Inf in the weights"};
    SONDE_CHECK(writer.write(std::as_bytes(std::span(step.logits))));
    progress.update(start + static_cast<int64_t>(chunk.size()));
    if (Interrupt::requested()) return stopped();
  }
  for (int64_t start = 0; draft && start < tokens - 1; start += kChunk) {
    const auto n = static_cast<std::size_t>(std::min(kChunk, tokens - 1 - start));
    const auto width = static_cast<std::size_t>(config.hidden_size);
    ForwardResult drafts;
    const SequenceChunk next{std::span(ids).subspan(size_t(start) + 1, n), start, pages.all(), options.run.reproducible,
                             Logits::kAll};
    model.forward_mtp(*direct.pool, next, std::span(final).subspan(size_t(start) * width, n * width), drafts);
    SONDE_CHECK(writer.write(std::as_bytes(std::span(drafts.logits))));
    progress.update(tokens + start + static_cast<int64_t>(n));
    if (Interrupt::requested()) return stopped();
  }
  if (options.hidden) {
    for (const std::vector<float>& hidden : inside.hidden) SONDE_CHECK(writer.write(std::as_bytes(std::span(hidden))));
    SONDE_CHECK(writer.write(std::as_bytes(std::span(final))));
    for (const int64_t layer : moe_layers)
      SONDE_CHECK(writer.write(std::as_bytes(std::span(inside.experts[size_t(layer)]))));
  }
  SONDE_CHECK(writer.finish());
  progress.clear();
  if (options.json)
    print_line(
        {{"out", options.out.path}, {"tokens", tokens}, {"vocabulary", config.vocab_size}, {"mtp_logits", draft}});
  return kOk;
}

Run setup(Args& args) {
  auto options = std::make_shared<Options>();
  options->model.declare(args);
  args.option("--ids", options->ids, "1,2,3; or @FILE, or - for standard input");
  options->out.declare(args, "-o,--out", "the safetensors file to write");
  args.flag("--hidden", options->hidden, "also hidden.0 ... hidden.L, final and experts.N");
  declare_json(args, options->json);
  options->run.declare(args);
  return [options] {
    if (options->ids.empty()) return usage_error("--ids is missing");
    if (options->out.path.empty()) return usage_error("--out is missing");
    return finish(logits(*options));
  };
}

}  // namespace

extern const Command cmd_logits = {
    "logits", "MODEL --ids 1,2,3 --out FILE.safetensors [--hidden] [--force]",
    "logits, hidden states and chosen experts of given ids, always on the exact path",
    "  sonde logits model.gguf --ids 0,19923,3 --out logits.safetensors\n"
    "  sonde logits DeepSeek-V2-Lite/ --ids @ids.txt --out all.safetensors --hidden\n"
    "  sonde tokenize m.gguf --text Hello --bos | sonde logits m.gguf --ids - --out l.safetensors\n",
    setup};

}  // namespace sonde
