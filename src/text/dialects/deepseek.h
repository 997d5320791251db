// What the DeepSeek dialects share: control tokens and the form of calls.
#pragma once

#include "text/dialects/native.h"

namespace sonde::deepseek {

inline constexpr std::string_view kBos = "<｜begin▁of▁sentence｜>", kEos = "<｜end▁of▁sentence｜>";
inline constexpr std::string_view kUser = "<｜User｜>", kAssistant = "<｜Assistant｜>";
inline constexpr std::string_view kCallsBegin = "<｜tool▁calls▁begin｜>", kCallsEnd = "<｜tool▁calls▁end｜>";
inline constexpr std::string_view kCallBegin = "<｜tool▁call▁begin｜>", kCallEnd = "<｜tool▁call▁end｜>";
inline constexpr std::string_view kSep = "<｜tool▁sep｜>";
inline constexpr std::string_view kOutputsBegin = "<｜tool▁outputs▁begin｜>", kOutputsEnd = "<｜tool▁outputs▁end｜>";
inline constexpr std::string_view kOutputBegin = "<｜tool▁output▁begin｜>", kOutputEnd = "<｜tool▁output▁end｜>";
inline constexpr std::string_view kThink = "<think>", kThinkEnd = "</think>";

inline std::vector<std::string_view> controls(bool think) {
  std::vector<std::string_view> all = {kBos,     kEos, kUser,         kAssistant,  kCallsBegin,  kCallsEnd, kCallBegin,
                                       kCallEnd, kSep, kOutputsBegin, kOutputsEnd, kOutputBegin, kOutputEnd};
  if (think) all.insert(all.end(), {kThink, kThinkEnd});
  return all;
}

// All system messages in front, two newlines between them.
void write_systems(const Conversation& conversation, PromptWriter& out);
// TYPE, NAME and fenced ARGUMENTS, with the marks of one call around them.
void write_fenced_call(const OrderedJson& call, PromptWriter& out);
// The text of an assistant's turn: what follows the last </think>.
std::string_view answer_of(const OrderedJson& message, PromptWriter& out);

}  // namespace sonde::deepseek
