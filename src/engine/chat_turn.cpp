#include "engine/chat_turn.h"

#include <utility>

namespace sonde {
namespace {

void append(MessageDelta& to, MessageDelta&& more) {
  to.reasoning_content += more.reasoning_content;
  to.content += more.content;
  for (auto& call : more.tool_calls) to.tool_calls.push_back(std::move(call));
}

}  // namespace

Result<std::unique_ptr<ChatTurn>> ChatTurn::start(Engine& engine, Conversation conversation, Request request) {
  SONDE_TRY(auto turns, start_group(engine, std::move(conversation), std::move(request), 1));
  return std::move(turns.front());
}

Result<std::vector<std::unique_ptr<ChatTurn>>> ChatTurn::start_group(Engine& engine, Conversation conversation,
                                                                     Request request, int samples) {
  SONDE_TRY(const Dialect* dialect, engine.require_dialect());
  const Tokenizer* tokenizer = engine.tokenizer();
  if (!tokenizer) return Error{Code::kUnsupported, "a chat needs a tokenizer, and the model has none", "", "", "", ""};
  repair(conversation);
  SONDE_TRY(const Prompt prompt, dialect->render(conversation));
  SONDE_TRY(request.prompt, encode_prompt(prompt, *dialect, *tokenizer));
  const std::string text = prompt.text();
  request.thinking = dialect->parser(text)->thinking();

  const auto prompt_tokens = static_cast<int64_t>(request.prompt.size());
  SONDE_TRY(auto streams, engine.submit_group(std::move(request), samples));
  std::vector<std::unique_ptr<ChatTurn>> turns;
  for (auto& stream : streams) {
    std::unique_ptr<ChatTurn> turn(new ChatTurn);
    turn->parser_ = dialect->parser(text);
    turn->stream_ = std::move(stream);
    turn->prompt_tokens_ = prompt_tokens;
    turns.push_back(std::move(turn));
  }
  return turns;
}

bool ChatTurn::next(ChatEvent& event) {
  Event from;
  if (!stream_->next(from)) return false;
  convert(std::move(from), event);
  return true;
}

int ChatTurn::next_for(ChatEvent& event, int milliseconds) {
  Event from;
  const int state = stream_->next_for(from, milliseconds);
  if (state == 1) convert(std::move(from), event);
  return state;
}

void ChatTurn::convert(Event&& from, ChatEvent& to) {
  to = ChatEvent{};
  raw_ += from.text;
  to.delta = parser_->push(from.text);
  to.ids = std::move(from.ids);
  to.thought = std::move(from.thought);
  to.logprobs = std::move(from.logprobs);
  to.top = std::move(from.top);
  if (from.finish_reason.empty()) return;
  // Anything but the end token or a stop text cut the output short.
  append(to.delta, parser_->finish(from.finish_reason != "stop"));
  const bool called = from.finish_reason == "stop" && parser_->message().finish_reason == "tool_calls";
  to.finish_reason = called ? "tool_calls" : std::move(from.finish_reason);
  to.error = std::move(from.error);
  to.usage = from.usage;
  to.seed = from.seed;
}

}  // namespace sonde
