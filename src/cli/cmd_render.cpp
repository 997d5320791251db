// sonde render: a conversation -> the exact prompt, as strictly as the published template.
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/common_flags.h"
#include "cli/jsonl.h"
#include "cli/text_model.h"

namespace sonde {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  ModelFlags model;
  std::optional<std::string> jsonl, messages;
  std::string dialect;
  bool json = false;
};

// "arguments": "object" in a line: tool-call arguments given as text are parsed first, as most servers do before they
// render.
void parse_arguments(Json& messages) {
  for (Json& message : messages) {
    if (!message.is_object() || !message.contains("tool_calls") || !message["tool_calls"].is_array()) continue;
    for (Json& call : message["tool_calls"]) {
      if (!call.is_object() || !call.contains("function") || !call["function"].is_object()) continue;
      Json& function = call["function"];
      if (!function.contains("arguments") || !function["arguments"].is_string()) continue;
      const std::string text = function["arguments"].get<std::string>();
      if (Result<Json> parsed = parse_json(text); parsed.ok()) function["arguments"] = std::move(*parsed);
    }
  }
}

Result<Conversation> conversation_of(const Json& line) {
  Conversation conversation;
  const auto messages = line.find("messages");
  if (messages == line.end()) return Error{.code = Code::kInvalid, .what = "\"messages\" is missing"};
  if (!messages->is_array())
    return Error{.code = Code::kInvalid, .what = "\"messages\" is not an array", .found = messages->type_name()};
  conversation.messages = *messages;
  for (const Json& message : conversation.messages)
    if (!message.is_object())
      return Error{.code = Code::kInvalid, .what = "a message is not an object", .found = message.type_name()};
  if (const auto tools = line.find("tools"); tools != line.end()) {
    if (!tools->is_array() && !tools->is_null())
      return Error{
          .code = Code::kInvalid, .what = "\"tools\" is neither an array nor null", .found = tools->type_name()};
    conversation.tools = *tools;
  }
  if (const auto thinking = line.find("thinking"); thinking != line.end() && !thinking->is_null()) {
    SONDE_TRY(conversation.thinking, bool_field(line, "thinking", false));
  }
  SONDE_TRY(conversation.add_generation_prompt, bool_field(line, "add_generation_prompt", true));
  if (const auto arguments = line.find("arguments"); arguments != line.end() && *arguments == "object")
    parse_arguments(conversation.messages);
  return conversation;
}

Result<Json> answer(const TextModel& model, const Dialect& dialect, const Json& line) {
  SONDE_TRY(const Conversation conversation, conversation_of(line));
  SONDE_TRY(const Prompt prompt, dialect.render(conversation));
  Json result = {{"prompt", prompt.text()}, {"ids", nullptr}};
  if (model.tokenizer) {
    // The vocabulary may lack a token that this dialect writes (--dialect with another model's vocabulary).
    if (const auto ids = encode_prompt(prompt, dialect, *model.tokenizer); ids.ok()) result["ids"] = *ids;
  }
  return result;
}

Result<int> render(const Options& options) {
  SONDE_TRY(const std::string path, options.model.path());
  SONDE_TRY(const TextModel model, open_text_model(path, false));
  SONDE_TRY(const std::shared_ptr<const Dialect> dialect, open_dialect(model, options.dialect));
  if (options.jsonl)
    return run_json_lines(*options.jsonl, [&](const Json& line) { return answer(model, *dialect, line); });

  SONDE_TRY(const std::string text, read_input(*options.messages));
  Result<Json> parsed = parse_json(text);
  if (!parsed.ok()) return std::move(parsed).error().in(*options.messages);
  const Json line = parsed->is_array() ? Json{{"messages", *parsed}} : *parsed;
  if (!line.is_object())
    return Error{.code = Code::kInvalid,
                 .what = "neither an array of messages nor an object",
                 .where = *options.messages,
                 .found = line.type_name()};
  SONDE_TRY(const Json result, answer(model, *dialect, line));
  if (options.json)
    print_line(result);
  else
    print(result["prompt"].get_ref<const std::string&>() + (stdout_is_terminal() ? "\n" : ""));
  return kOk;
}

Run setup(Args& args) {
  auto options = std::make_shared<Options>();
  options->model.declare(args);
  args.option("--jsonl", options->jsonl,
              "lines {\"messages\", \"tools\", \"thinking\", \"add_generation_prompt\"}, answered by lines "
              "{\"prompt\", \"ids\"}; "
              "- is standard input");
  args.option("--messages", options->messages,
              "a file with one array of messages, or one such object; - is standard input");
  args.option("--dialect", options->dialect, "a dialect by name, on any vocabulary");
  declare_json(args, options->json);
  return [options] {
    if (options->jsonl.has_value() == options->messages.has_value())
      return usage_error("give one of --jsonl and --messages");
    return finish(render(*options));
  };
}

}  // namespace

extern const Command cmd_render = {
    "render", "MODEL (--jsonl F | --messages F) [--dialect NAME] [--json]", "a conversation to the exact prompt",
    "  sonde render model.gguf --messages talk.json\n"
    "  echo '{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}' | sonde render model.gguf --jsonl -\n"
    "  sonde render model.gguf --dialect deepseek-v3.1 --jsonl talks.jsonl\n",
    setup};

}  // namespace sonde
