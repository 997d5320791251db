// sonde chat: a conversation at the terminal, or from lines on standard input.
#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/jsonl.h"
#include "cli/line_editor.h"
#include "cli/reply.h"
#include "files/output.h"

namespace sonde {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  ModelFlags model;
  ChatFlags chat;
  RunFlags run;
  bool json = false;
};

constexpr const char* kHelp =
    "/reset           start again, with the system message alone\n"
    "/save FILE       write the conversation as JSON\n"
    "/load FILE       go on with a conversation that was saved\n"
    "/think on|off    with a thought before the answer, or without\n"
    "/help            this list\n"
    "/quit            leave, as does Ctrl-D\n"
    "A line that ends in \\ goes on in the next. Ctrl-C stops an answer.\n";

class Chat {
 public:
  Chat(Engine& engine, const Options& options) : engine_(engine), options_(options), flags_(options.chat) { reset(); }

  // What one line leads to; false: leave.
  bool handle(const std::string& line) {
    if (line.find_first_not_of(" \t") == std::string::npos) return true;
    if (line.front() != '/') return ask(line), true;
    const std::size_t space = line.find(' ');
    const std::string command = line.substr(0, space);
    const std::size_t start = space == std::string::npos ? space : line.find_first_not_of(' ', space);
    const std::string argument =
        start == std::string::npos ? "" : line.substr(start, line.find_last_not_of(' ') - start + 1);
    if (command == "/quit" || command == "/exit") return false;
    if (command == "/help")
      say(kHelp);
    else if (command == "/reset")
      reset(), say("A new conversation.\n");
    else if (command == "/think")
      think(argument);
    else if (command == "/save")
      report(save(argument), "Saved to " + argument + ".\n");
    else if (command == "/load")
      report(load(argument), "Loaded from " + argument + ".\n");
    else
      say("There is no command " + command + "; /help lists them.\n");
    return true;
  }

 private:
  // Everything but answers goes to stderr.
  static void say(const std::string& text) {
    flush();
    std::fputs(text.c_str(), stderr);
  }
  static void report(const Status& status, const std::string& done) {
    if (status.ok())
      say(done);
    else
      fail(status.error());
  }

  void reset() {
    messages_ = Json::array();
    if (options_.chat.system) messages_.push_back({{"role", "system"}, {"content", *options_.chat.system}});
  }

  void think(const std::string& argument) {
    if (argument != "on" && argument != "off") return say("/think on, or /think off\n");
    flags_.no_think = argument == "off";
    if (flags_.no_think)
      flags_.think_budget.reset();
    else
      flags_.think_budget = options_.chat.think_budget;
    const Dialect* dialect = engine_.dialect();
    say(dialect && !dialect->can_think() ? "This model does not think.\n"
        : flags_.no_think                ? "No thoughts from here on.\n"
                                         : "Thoughts again.\n");
  }

  static Result<std::string> named(const std::string& path) {
    if (path.empty()) return Error{.code = Code::kInvalid, .what = "the name of a file is missing"};
    return path;
  }
  Status save(const std::string& argument) const {
    SONDE_TRY(const std::string path, named(argument));
    return write_text(path, Json{{"messages", messages_}}.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  }
  Status load(const std::string& argument) {
    SONDE_TRY(const std::string path, named(argument));
    SONDE_TRY(const std::string text, read_input(path));
    SONDE_TRY(const Json parsed, parse_json(text));
    const Json messages = parsed.is_object() && parsed.contains("messages") ? parsed["messages"] : parsed;
    bool good = messages.is_array();
    for (const Json& message : messages)
      good = good && message.is_object() && message.contains("role") && message["role"].is_string();
    if (!good)
      return Error{.code = Code::kInvalid, .what = "no conversation: an array of messages is wanted", .where = path};
    messages_ = messages;
    return {};
  }

  void ask(const std::string& question) {
    messages_.push_back({{"role", "user"}, {"content", question}});
    const Result<Reply> reply = turn();
    if (!reply.ok() || reply->finish_reason == "cancelled") {
      messages_.erase(messages_.size() - 1);  // the question may be asked again
      if (!reply.ok())
        fail(reply.error());
      else
        say("(stopped)\n");
      return;
    }
    if (options_.json) print_line(reply_json(*reply)), flush();
    Json message = {{"role", "assistant"}, {"content", reply->message.content}};
    if (reply->message.reasoning_content && !reply->message.reasoning_content->empty())
      message["reasoning_content"] = *reply->message.reasoning_content;
    messages_.push_back(message);
    if (reply->finish_reason == "length") say("(cut: no more tokens were allowed; /reset starts again)\n");
    if (reply->finish_reason == "loop") say("(ended: it only repeated itself)\n");
  }
  Result<Reply> turn() {
    Conversation conversation;
    conversation.messages = messages_;
    SONDE_TRY(const Request request, make_request(engine_, options_.run, flags_, conversation));
    return run_turn(engine_, conversation, request, !options_.json);
  }

  Engine& engine_;
  const Options& options_;
  ChatFlags flags_;
  Json messages_;
};

Result<int> chat(const Options& options) {
  SONDE_CHECK(options.run.check());
  SONDE_CHECK(options.chat.check());
  SONDE_TRY(const std::string path, options.model.path_or_embedded());
  EngineOptions engine_options = options.run.engine_options();
  engine_options.max_batch = 1;
  SONDE_TRY(const std::unique_ptr<Engine> engine, open_engine(path, std::move(engine_options)));
  SONDE_TRY([[maybe_unused]] const Dialect* dialect, engine->require_dialect());

  const Interrupt interrupt;
  LineEditor editor("> ");
  if (editor.interactive()) notice("/help lists the commands, /quit or Ctrl-D leaves");
  Chat chat(*engine, options);
  std::string text, line;
  for (;;) {
    const LineEditor::Got got = editor.next(line);
    if (got == LineEditor::Got::kEnd) break;
    if (got == LineEditor::Got::kStopped) {
      text.clear();
      continue;
    }
    if (!line.empty() && line.back() == '\\') {
      text += line.substr(0, line.size() - 1) + "\n";
      continue;
    }
    Interrupt::reset();
    if (!chat.handle(text + line)) break;
    Interrupt::reset();
    text.clear();
  }
  if (editor.interactive()) print("\n");
  return kOk;
}

Run setup(Args& args) {
  auto options = std::make_shared<Options>();
  options->model.declare(args);
  options->chat.declare(args);
  declare_json(args, options->json);
  options->run.declare(args);
  return [options] { return finish(chat(*options)); };
}

}  // namespace

extern const Command cmd_chat = {
    "chat", "[MODEL] [--system S] [--no-think] [--think-budget N] [--json]", "a conversation at the terminal",
    "  sonde chat\n"
    "  sonde chat DeepSeek-R1-Distill-Qwen-1.5B-Q4_K_M.gguf --system \"Answer in French.\"\n"
    "  printf '12 + 30\\nand minus 5?\\n' | sonde chat --temperature 0\n",
    setup};

}  // namespace sonde
