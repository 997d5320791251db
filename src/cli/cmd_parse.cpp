// sonde parse: a model's raw output -> reasoning, answer and tool calls.
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/common_flags.h"
#include "cli/jsonl.h"
#include "cli/message_json.h"
#include "cli/text_model.h"

namespace sonde {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  ModelFlags model;
  std::optional<std::string> jsonl;
  std::string dialect;
  bool json = false;
};

Result<Json> answer(const Dialect& dialect, const Json& line) {
  SONDE_TRY(const std::string raw, text_field(line, "raw"));
  SONDE_TRY(const bool cut_by_limit, bool_field(line, "cut_by_limit", false));
  std::string prompt_end(dialect.generation_prompt());
  if (const auto field = line.find("prompt_end"); field != line.end() && !field->is_null()) {
    SONDE_TRY(prompt_end, text_field(line, "prompt_end"));
  }
  const std::unique_ptr<OutputParser> parser = dialect.parser(prompt_end);
  parser->push(raw);
  parser->finish(cut_by_limit);
  const ParsedMessage& message = parser->message();
  if (!message.error.empty()) return Error{.code = Code::kInvalid, .what = message.error};
  Json result = message_json(message);
  result["finish_reason"] = message.finish_reason;
  return result;
}

Result<int> parse(const Options& options) {
  SONDE_TRY(const std::string path, options.model.path());
  SONDE_TRY(const TextModel model, open_text_model(path, false));
  SONDE_TRY(const std::shared_ptr<const Dialect> dialect, open_dialect(model, options.dialect));
  return run_json_lines(*options.jsonl, [&](const Json& line) { return answer(*dialect, line); });
}

Run setup(Args& args) {
  auto options = std::make_shared<Options>();
  options->model.declare(args);
  args.option(
      "--jsonl", options->jsonl,
      "lines {\"raw\", \"prompt_end\", \"cut_by_limit\"}, answered by lines {\"reasoning_content\", \"content\", "
      "\"tool_calls\", \"finish_reason\"}; - is standard input");
  args.option("--dialect", options->dialect, "a dialect by name, instead of the model's own");
  declare_json(args, options->json);
  return [options] {
    if (!options->jsonl) return usage_error("--jsonl is missing");
    return finish(parse(*options));
  };
}

}  // namespace

extern const Command cmd_parse = {"parse", "MODEL --jsonl F [--dialect NAME]",
                                  "a raw output to reasoning, answer and tool calls",
                                  "  echo '{\"raw\": \"2 + 2 = 4.</think>4\"}' | sonde parse models/mini --jsonl -\n"
                                  "  sonde parse model.gguf --dialect deepseek-v3.1 --jsonl outputs.jsonl\n",
                                  setup};

}  // namespace sonde
