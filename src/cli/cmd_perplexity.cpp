// sonde perplexity: how well a model expects a text, in windows side by side.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/direct.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "files/safetensors.h"
#include "text/tokenizer.h"

namespace sonde {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  ModelFlags model;
  RunFlags run;
  std::optional<std::string> file, ids_file;
  int64_t window = 512;
  bool bos = false, json = false;
};

constexpr int64_t kChunk = 4 * kPageTokens;  // tokens a step: bounds the logits held at once

// Mean, its standard error and e^mean of negative log-likelihoods.
struct Sums {
  int64_t count = 0;
  double sum = 0, squares = 0;
  void add(double nll) { ++count, sum += nll, squares += nll * nll; }
  double mean() const { return sum / static_cast<double>(count); }
  double standard_error() const {
    const auto n = static_cast<double>(count);
    return n < 2 ? 0 : std::sqrt(std::max(0.0, squares / n - mean() * mean()) / (n - 1));
  }
  Json json() const {
    return {{"predictions", count},
            {"mean_nll", mean()},
            {"standard_error", standard_error()},
            {"perplexity", std::exp(mean())}};
  }
};

// -log softmax(logits)[id], by log-sum-exp in double.
double negative_log_likelihood(const float* logits, int64_t n, int32_t id) {
  const double largest = *std::max_element(logits, logits + n);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(logits[i] - largest);
  return std::log(sum) + largest - logits[id];
}

Result<std::vector<int32_t>> ids_from_file(const std::string& path) {
  SONDE_TRY(const Safetensors file, open_safetensors(path));
  const Tensor* tensor = file.find("input_ids");
  if (!tensor) return Error{.code = Code::kNotFound, .what = "no tensor input_ids", .where = path};
  const std::string_view type = tensor->type->safetensors;
  if (type != "I32" && type != "I64")
    return Error{.code = Code::kInvalid,
                 .what = "input_ids are no integers",
                 .where = path,
                 .expected = "I32 or I64",
                 .found = std::string(type)};
  std::vector<int32_t> ids(static_cast<std::size_t>(tensor->count()));
  for (std::size_t i = 0; i < ids.size(); ++i) {
    int64_t id = 0;
    if (type == "I32") {
      int32_t narrow = 0;
      std::memcpy(&narrow, tensor->bytes.data() + i * 4, 4);
      id = narrow;
    } else {
      std::memcpy(&id, tensor->bytes.data() + i * 8, 8);
    }
    if (id < 0 || id > INT32_MAX)
      return Error{.code = Code::kInvalid,
                   .what = "not a token id",
                   .where = path + ": input_ids",
                   .found = fmt::format("{}", id)};
    ids[i] = static_cast<int32_t>(id);
  }
  return ids;
}

Result<std::vector<int32_t>> ids_of_text(const Options& options, const Checkpoint& checkpoint) {
  SONDE_TRY(const auto tokenizer, Tokenizer::open(checkpoint));
  SONDE_TRY(const std::string text, read_input(*options.file));
  std::vector<int32_t> ids = tokenizer->encode(text);
  if (options.bos) {
    if (!tokenizer->bos())
      return Error{
          .code = Code::kNotFound, .what = "--bos: this vocabulary has no BOS token", .where = checkpoint.path()};
    ids.insert(ids.begin(), *tokenizer->bos());
  }
  return ids;
}

Result<int> perplexity(const Options& options) {
  SONDE_TRY(const std::string path, options.model.path());
  SONDE_CHECK(options.run.check());
  SONDE_TRY(DirectModel direct, open_direct(path, options.run));
  SONDE_TRY(const std::vector<int32_t> ids,
            options.file ? ids_of_text(options, *direct.checkpoint) : ids_from_file(*options.ids_file));
  const int64_t window = options.window, windows = static_cast<int64_t>(ids.size()) / window;
  if (windows == 0)
    return Error{.code = Code::kInvalid,
                 .what = "the text is shorter than one window",
                 .expected = fmt::format("at least {} tokens", window),
                 .found = fmt::format("{}", ids.size()),
                 .hint = "--window takes a smaller one"};
  SONDE_CHECK(check_ids(direct, std::span(ids).first(static_cast<std::size_t>(window))));
  for (int64_t w = 1; w < windows; ++w)
    SONDE_CHECK(check_ids(
        direct, std::span(ids).subspan(static_cast<std::size_t>(w * window), static_cast<std::size_t>(window))));
  Model& model = *direct.model;
  SONDE_TRY(const Pages pages, Pages::make(model.kv_layout(), window));

  const Interrupt interrupt;
  const ThreadPool::Awake awake(*direct.pool);
  ProgressLine progress("perplexity", windows * window, "tokens");
  const int64_t vocabulary = model.config().vocab_size;
  Sums all, second_half;
  ForwardResult step;
  std::vector<double> nll(kChunk);
  for (int64_t w = 0; w < windows; ++w) {
    const auto text = std::span(ids).subspan(static_cast<std::size_t>(w * window), static_cast<std::size_t>(window));
    for (int64_t start = 0; start < window - 1; start += kChunk) {
      // The last token of a window predicts nothing that counts.
      const int64_t rows = std::min(kChunk, window - 1 - start);
      const SequenceChunk chunk{text.subspan(size_t(start), size_t(rows)), start, pages.all(), options.run.reproducible,
                                Logits::kAll};
      if (!model.forward(*direct.pool, std::span(&chunk, 1), step, nullptr,
                         watched(progress, w * window + start, rows)))
        return stopped();
      model.move_weights(*direct.pool);
      direct.pool->split(rows, 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i)
          nll[size_t(i)] =
              negative_log_likelihood(step.logits.data() + i * vocabulary, vocabulary, text[size_t(start + i + 1)]);
      });
      for (int64_t i = 0; i < rows; ++i) {
        if (!std::isfinite(nll[size_t(i)]))
          return Error{.code = Code::kCorrupt,
                       .what = fmt::format("the logits of token {} of window {} are not finite", start + i, w),
                       .where = path,
                       .hint = "`sonde inspect --check` looks for NaN and Inf in the weights"};
        all.add(nll[size_t(i)]);
        if (start + i >= window / 2) second_half.add(nll[size_t(i)]);
      }
      progress.update(w * window + start + rows);
      if (Interrupt::requested()) return stopped();
    }
  }
  progress.clear();
  if (options.json) {
    Json json = {{"tokens", ids.size()}, {"window", window}, {"windows", windows}};
    json.update(all.json());
    json["second_half"] = second_half.count ? second_half.json() : Json(nullptr);
    print_line(json);
  } else {
    print(fmt::format("{} tokens, {} windows of {}\n", ids.size(), windows, window));
    const auto line = [](const char* what, const Sums& sums) {
      if (sums.count)
        print(fmt::format("{:<12} perplexity {:.4f}   mean nll {:.6f} +- {:.6f} over {} predictions\n", what,
                          std::exp(sums.mean()), sums.mean(), sums.standard_error(), sums.count));
    };
    line("all", all);
    line("second half", second_half);
  }
  return kOk;
}

Run setup(Args& args) {
  auto options = std::make_shared<Options>();
  options->model.declare(args);
  args.option("--file", options->file, "the text; - is standard input");
  args.option("--ids-file", options->ids_file, "a safetensors file with `input_ids`; needs no tokenizer");
  args.option("--window", options->window, "tokens of a window (default 512); the last partial window is dropped");
  args.flag("--bos", options->bos, "put the BOS token in front of the text");
  declare_json(args, options->json);
  options->run.declare(args);
  return [options] {
    if (options->file.has_value() == options->ids_file.has_value())
      return usage_error("give one of --file and --ids-file");
    if (options->window < 2 || options->window > (int64_t{1} << 30))
      return usage_error(fmt::format("--window {} is out of range: 2 and above", options->window));
    if (options->bos && options->ids_file) return usage_error("--bos goes with --file; ids are taken as they are");
    return finish(perplexity(*options));
  };
}

}  // namespace

extern const Command cmd_perplexity = {
    "perplexity", "MODEL (--file T | --ids-file F.safetensors) [--window 512] [--bos] [--json]",
    "how well a model expects a text",
    "  sonde perplexity model.gguf --file book.txt\n"
    "  sonde perplexity DeepSeek-V2-Lite/ --ids-file ids.safetensors --window 2048 --json\n",
    setup};

}  // namespace sonde
