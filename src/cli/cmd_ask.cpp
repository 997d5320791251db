// sonde ask: one question, one answer.
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/reply.h"

namespace sonde {
namespace {

struct Options {
  std::optional<std::string> first, second;  // [MODEL] QUESTION
  std::string named;                         // -m MODEL
  ChatFlags chat;
  RunFlags run;
  bool json = false;
};

Result<int> ask(const Options& options) {
  SONDE_CHECK(options.run.check());
  SONDE_CHECK(options.chat.check());
  const bool two = options.second.has_value();
  if (two && !options.named.empty()) return usage_mistake("MODEL is given twice, once with -m");
  std::string question = two ? *options.second : options.first.value_or("");
  if (question.empty()) return usage_mistake("the question is missing");
  if (question == "-") {
    SONDE_TRY(question, read_input("-"));
    if (question.find_first_not_of(" \t\r\n") == std::string::npos) return usage_mistake("the question is empty");
  }
  std::string path = two ? *options.first : options.named;
  if (path.empty()) { SONDE_TRY(path, embedded_default()); }
  EngineOptions engine_options = options.run.engine_options();
  engine_options.max_batch = 1;
  SONDE_TRY(const std::unique_ptr<Engine> engine, open_engine(path, std::move(engine_options)));

  Conversation conversation;
  conversation.messages = nlohmann::ordered_json::array();
  if (options.chat.system) conversation.messages.push_back({{"role", "system"}, {"content", *options.chat.system}});
  conversation.messages.push_back({{"role", "user"}, {"content", question}});
  SONDE_TRY(const Request request, make_request(*engine, options.run, options.chat, conversation));
  const Interrupt interrupt;
  SONDE_TRY(const Reply reply, run_turn(*engine, conversation, request, !options.json));
  if (options.json) print_line(reply_json(reply));
  if (reply.finish_reason == "length") notice("the answer was cut: no more tokens were allowed");
  if (reply.finish_reason == "loop") notice("the answer was ended: it only repeated itself");
  return reply.finish_reason == "cancelled" ? kInterrupted : kOk;
}

Run setup(Args& args) {
  auto options = std::make_shared<Options>();
  args.positional("FIRST", options->first, "the question; or MODEL, if a question follows");
  args.positional("SECOND", options->second, "the question; - is standard input");
  args.option("-m,--model", options->named,
              "a folder, a file, or the first of several files (default: the embedded model)");
  options->chat.declare(args);
  declare_json(args, options->json);
  options->run.declare(args);
  return [options] { return finish(ask(*options)); };
}

}  // namespace

extern const Command cmd_ask = {
    "ask", "[MODEL] \"question\" [--system S] [--no-think] [--think-budget N] [--json]", "one question, one answer",
    "  sonde ask \"37 * 48\"\n"
    "  sonde ask model.gguf \"Why is the sky blue?\" --temperature 0\n"
    "  sonde ask -m DeepSeek-R1-Distill-Qwen-1.5B/ \"Is 91 prime?\" --think-budget 500 --json\n",
    setup};

}  // namespace sonde
