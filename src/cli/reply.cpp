#include "cli/reply.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "cli/interrupt.h"
#include "cli/message_json.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "engine/defaults.h"

namespace sonde {
namespace {

constexpr int kPollMilliseconds = 50;

class Screen {
 public:
  Screen() : styled_(stdout_is_terminal() && !std::getenv("NO_COLOR")) {}

  void add(const MessageDelta& delta) {
    if (!delta.reasoning_content.empty()) reason(delta.reasoning_content);
    if (!delta.content.empty()) answer(delta.content);
    flush();
  }
  void finish(const ParsedMessage& message) {
    end_thought();
    for (const ToolCallText& call : message.tool_calls)
      print(shown(fmt::format("\n{}({})", call.name, call.arguments)));
    if (answered_ || thought_ || !message.tool_calls.empty()) print("\n");
    flush();
  }

 private:
  void reason(std::string_view text) {
    if (!thought_) {
      text.remove_prefix(std::min(text.find_first_not_of("\n"), text.size()));
      if (text.empty()) return;
      print(styled_ ? "\033[2m" : "reasoning:\n");
      thought_ = open_ = true;
    }
    // Line ends are held back: those at the end of the thought are the template's.
    held_ += text;
    const std::size_t end = held_.find_last_not_of("\n") + 1;
    print(shown(std::string_view(held_).substr(0, end)));
    held_.erase(0, end);
  }
  void answer(std::string_view text) {
    if (!answered_) {
      text.remove_prefix(std::min(text.find_first_not_of("\n"), text.size()));
      if (text.empty()) return;
      end_thought();
      if (thought_) print("\n\n");
      answered_ = true;
    }
    print(shown(text));
  }
  void end_thought() {
    if (std::exchange(open_, false) && styled_) print("\033[22m");
  }

  const bool styled_;
  std::string held_;
  bool thought_ = false, open_ = false, answered_ = false;
};

}  // namespace

void ChatFlags::declare(Args& args) {
  args.option("--system", system, "a system message in front");
  args.option("-n,--max-tokens", max_tokens, "at most so many tokens (default: until the context is full)");
  args.flag("--no-think", no_think, "answer at once, without a thought");
  args.option("--think-budget", think_budget, "close the thought after so many tokens");
}

Status ChatFlags::check() const {
  if (think_budget && *think_budget < 0)
    return usage_mistake(fmt::format("--think-budget {} is negative", *think_budget));
  if (no_think && think_budget) return usage_mistake("--no-think and --think-budget exclude each other");
  if (max_tokens < -1 || max_tokens == 0)
    return usage_mistake(fmt::format("--max-tokens {} is out of range: 1 and above", max_tokens));
  return {};
}

std::string shown(std::string_view text) {
  if (!stdout_is_terminal()) return std::string(text);
  std::string clean;
  for (const char c : text)
    if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t') clean += c;
  return clean;
}

nlohmann::ordered_json reply_json(const Reply& reply) {
  nlohmann::ordered_json json = message_json(reply.message);
  json["finish_reason"] = reply.finish_reason;
  const Usage& usage = reply.usage;
  json["usage"] = {{"prompt_tokens", usage.prompt_tokens},
                   {"completion_tokens", usage.completion_tokens},
                   {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
                   {"reasoning_tokens", usage.reasoning_tokens},
                   {"cached_tokens", usage.cached_tokens},
                   {"drafted_tokens", usage.drafted_tokens},
                   {"accepted_tokens", usage.accepted_tokens},
                   {"prefill_seconds", usage.prefill_seconds},
                   {"decode_seconds", usage.decode_seconds}};
  json["seed"] = reply.seed;
  return json;
}

Result<Request> make_request(const Engine& engine, const RunFlags& run, const ChatFlags& chat,
                             Conversation& conversation) {
  SONDE_TRY(const Dialect* dialect, engine.require_dialect());
  Request request;
  request.max_tokens = chat.max_tokens;
  request.stop = run.stop;
  SONDE_TRY(request.sampling, run.sampling(default_sampling(engine.checkpoint(), dialect)));
  if (chat.think_budget) request.think.tokens = *chat.think_budget;
  if (chat.no_think) {
    if (dialect->thinking_switch())
      conversation.thinking = false;
    else if (dialect->can_think())
      request.think = {.tokens = 0, .closing = "\n"};  // "<think>\n\n</think>", as R1's users close it
  } else if (dialect->thinking_switch() && dialect->can_think()) {
    conversation.thinking = true;
  }
  return request;
}

Result<Reply> run_turn(Engine& engine, const Conversation& conversation, const Request& request, bool show) {
  SONDE_TRY(const std::unique_ptr<ChatTurn> turn, ChatTurn::start(engine, conversation, request));
  Reply reply;
  Screen screen;
  // Until the first token comes, the prompt is being read; then tokens are counted where nothing shows them.
  ProgressLine reading("reading the prompt", turn->prompt_tokens(), "tokens");
  std::optional<ProgressLine> writing;
  int64_t tokens = 0;
  bool cancelled = false;
  ChatEvent event;
  for (int state = 0; (state = turn->next_for(event, kPollMilliseconds)) >= 0;) {
    if (Interrupt::requested() && !std::exchange(cancelled, true)) turn->cancel();
    if (state == 0) {
      if (!writing) reading.update(turn->prompt_read());
      continue;
    }
    if (!writing) reading.clear(), writing.emplace("answering", 0, "tokens");
    tokens += static_cast<int64_t>(event.ids.size());
    if (show)
      screen.add(event.delta);
    else
      writing->update(tokens);
    if (event.error) return *event.error;
    if (!event.finish_reason.empty()) {
      reply.finish_reason = event.finish_reason;
      reply.usage = event.usage;
      reply.seed = event.seed;
    }
  }
  writing.reset();
  reply.message = turn->message();
  if (show) screen.finish(reply.message);
  return reply;
}

}  // namespace sonde
