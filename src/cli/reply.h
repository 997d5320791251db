// An answer on its way to the screen: reasoning apart from the answer proper, both as they come.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "cli/args.h"
#include "cli/common_flags.h"
#include "engine/chat_turn.h"

namespace sonde {

// What ask and chat share beside the flags of every model.
struct ChatFlags {
  std::optional<std::string> system;
  bool no_think = false;
  std::optional<int> think_budget;
  int64_t max_tokens = -1;

  void declare(Args& args);
  Status check() const;
};

struct Reply {
  ParsedMessage message;
  std::string finish_reason;
  Usage usage;
  uint64_t seed = 0;
};

// {"reasoning_content", "content", "tool_calls", "finish_reason", "usage", "seed"}
nlohmann::ordered_json reply_json(const Reply& reply);

// One turn. With `show`, the text goes to stdout as it comes: the thought dimmed on a terminal, else under
// "reasoning:". Ctrl-C (interrupt.h) cancels it; its finish_reason is then "cancelled". A failure of the engine is an
// error.
Result<Reply> run_turn(Engine& engine, const Conversation& conversation, const Request& request, bool show);

// The request that the flags and the model's defaults make; `thinking` of the conversation is set too.
Result<Request> make_request(const Engine& engine, const RunFlags& run, const ChatFlags& chat,
                             Conversation& conversation);

// Text of a model for this stdout: without escape sequences where that is a terminal.
std::string shown(std::string_view text);

}  // namespace sonde
