// One turn of a chat: conversation -> prompt -> engine -> reasoning, answer and tool calls as they come.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sonde/engine.h"
#include "text/dialect.h"

namespace sonde {

struct ChatEvent {
  MessageDelta delta;
  std::vector<int32_t> ids;  // as in Event
  std::vector<uint8_t> thought;
  std::vector<TokenLogprob> logprobs;
  std::vector<std::vector<TokenLogprob>> top;
  // On the last event: "stop", "length", "tool_calls", "loop", "cancelled", "error"; else empty.
  std::string finish_reason;
  std::optional<Error> error;
  Usage usage;
  uint64_t seed = 0;
};

class ChatTurn {
 public:
  // `request` brings everything but prompt and thinking. The conversation is repaired (text/dialect.h) first.
  static Result<std::unique_ptr<ChatTurn>> start(Engine& engine, Conversation conversation, Request request);
  // Several answers to one conversation; its prompt is computed once.
  static Result<std::vector<std::unique_ptr<ChatTurn>>> start_group(Engine& engine, Conversation conversation,
                                                                    Request request, int samples);

  // As Stream: waits for the next event; false after the last one. The second waits at most so long: 1, 0 none yet, -1
  // over.
  bool next(ChatEvent& event);
  int next_for(ChatEvent& event, int milliseconds);
  void cancel() { stream_->cancel(); }

  const ParsedMessage& message() const { return parser_->message(); }  // whole after the last event
  bool thinking() const { return parser_->thinking(); }
  const std::string& raw() const { return raw_; }  // the output as text, control tokens and all
  int64_t prompt_tokens() const { return prompt_tokens_; }
  int64_t prompt_read() const { return stream_->prompt_read(); }  // of them, so far

 private:
  ChatTurn() = default;
  void convert(Event&& from, ChatEvent& to);

  std::unique_ptr<OutputParser> parser_;
  std::unique_ptr<Stream> stream_;
  std::string raw_;
  int64_t prompt_tokens_ = 0;
};

}  // namespace sonde
