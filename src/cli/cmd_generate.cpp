// sonde generate: the raw continuation of a text or of ids.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/reply.h"
#include "engine/defaults.h"
#include "text/tokenizer.h"

namespace sonde {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  ModelFlags model;
  std::optional<std::string> prompt, ids;
  RunFlags run;
  int64_t max_tokens = -1;
  bool special = false, ignore_eos = false, loop_guard = false, json = false;
};

Result<std::vector<int32_t>> prompt_ids(const Options& options, const Engine& engine) {
  if (options.ids) return read_ids(*options.ids);  // fed as given
  SONDE_TRY(const Tokenizer* tokenizer, engine.require_tokenizer());
  std::string text = *options.prompt;
  if (text == "-") { SONDE_TRY(text, read_input("-")); }
  std::vector<int32_t> ids = tokenizer->encode(text, options.special ? Special::kAll : Special::kNone);
  if (tokenizer->adds_bos() && tokenizer->bos()) ids.insert(ids.begin(), *tokenizer->bos());
  return ids;
}

double rate(int64_t tokens, double seconds) { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }

Result<int> generate(const Options& options) {
  SONDE_TRY(const std::string path, options.model.path());
  SONDE_CHECK(options.run.check());
  EngineOptions engine_options = options.run.engine_options();
  engine_options.max_batch = 1;
  SONDE_TRY(const std::unique_ptr<Engine> engine, open_engine(path, std::move(engine_options)));

  Request request;
  SONDE_TRY(request.prompt, prompt_ids(options, *engine));
  SONDE_TRY(request.sampling, options.run.sampling(default_sampling(engine->checkpoint(), engine->dialect())));
  request.max_tokens = options.max_tokens;
  request.stop = options.run.stop;
  request.ignore_eos = options.ignore_eos;
  request.loop_guard = options.loop_guard;
  const auto prompt_tokens = static_cast<int64_t>(request.prompt.size());

  const Interrupt interrupt;
  ProgressLine reading("reading the prompt", prompt_tokens, "tokens");
  std::optional<ProgressLine> writing;
  SONDE_TRY(const std::unique_ptr<Stream> stream, engine->submit(std::move(request)));
  const bool words = engine->tokenizer() != nullptr;
  std::vector<int32_t> ids;
  std::string text;
  Event event, last;
  bool cancelled = false;
  for (int state = 0; (state = stream->next_for(event, 50)) >= 0;) {
    if (Interrupt::requested() && !std::exchange(cancelled, true)) stream->cancel();
    if (state == 0) {
      if (!writing) reading.update(stream->prompt_read());
      continue;
    }
    if (!writing) reading.clear(), writing.emplace("generating", std::max<int64_t>(0, options.max_tokens), "tokens");
    if (event.error) return *event.error;
    if (!options.json) {
      if (words)
        print(shown(event.text));
      else
        print((ids.empty() || event.ids.empty() ? "" : ",") + fmt::format("{}", fmt::join(event.ids, ",")));
      flush();
    } else {
      writing->update(static_cast<int64_t>(ids.size() + event.ids.size()));
    }
    ids.insert(ids.end(), event.ids.begin(), event.ids.end());
    text += event.text;
    if (!event.finish_reason.empty()) last = event;
  }
  writing.reset();
  const Usage& usage = last.usage;
  if (options.json) {
    Json json = {{"ids", ids}, {"text", nullptr}, {"finish_reason", last.finish_reason}};
    if (words) json["text"] = text;
    json["timings"] = {
        {"prompt_tokens", usage.prompt_tokens},
        {"completion_tokens", usage.completion_tokens},
        {"drafted_tokens", usage.drafted_tokens},
        {"accepted_tokens", usage.accepted_tokens},
        {"prefill_seconds", usage.prefill_seconds},
        {"decode_seconds", usage.decode_seconds},
        {"prefill_tokens_per_second", rate(usage.prompt_tokens - usage.cached_tokens, usage.prefill_seconds)},
        {"decode_tokens_per_second", rate(usage.completion_tokens, usage.decode_seconds)}};
    json["seed"] = last.seed;
    print_line(json);
  } else if (!words || stdout_is_terminal() || (!text.empty() && text.back() != '\n')) {
    print("\n");
  }
  if (last.finish_reason == "length" && usage.completion_tokens != options.max_tokens)
    notice(fmt::format("the continuation was cut: the context of {} tokens is full", engine->options().context));
  return last.finish_reason == "cancelled" ? kInterrupted : kOk;
}

Run setup(Args& args) {
  auto options = std::make_shared<Options>();
  options->model.declare(args);
  args.option("-p,--prompt", options->prompt, "the text to continue; - is standard input");
  args.option("--ids", options->ids, "the ids to continue, fed as given: 1,2,3; or @FILE, or -; needs no tokenizer");
  args.option("-n,--max-tokens", options->max_tokens, "at most so many tokens (default: until the context is full)");
  args.flag("--special", options->special, "recognise control tokens written out in the prompt");
  args.flag("--ignore-eos", options->ignore_eos, "go on after an end token");
  args.flag("--loop-guard", options->loop_guard, "end a continuation that only repeats itself");
  declare_json(args, options->json);
  options->run.declare(args);
  return [options] {
    if (options->prompt.has_value() == options->ids.has_value()) return usage_error("give one of --prompt and --ids");
    if (options->max_tokens < -1 || options->max_tokens == 0)
      return usage_error(fmt::format("--max-tokens {} is out of range: 1 and above", options->max_tokens));
    return finish(generate(*options));
  };
}

}  // namespace

extern const Command cmd_generate = {
    "generate", "MODEL (--prompt T | --ids 1,2,3) [--max-tokens N] [--ignore-eos] [--json]",
    "the raw continuation of a text or of ids",
    "  sonde generate stories260K.gguf --prompt \"Once upon a time\" --max-tokens 100 --temperature 0\n"
    "  sonde generate DeepSeek-V2-Lite/ --ids 0,19923,3 -n 16 --json\n",
    setup};

}  // namespace sonde
