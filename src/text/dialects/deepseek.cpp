#include "text/dialects/deepseek.h"

namespace sonde::deepseek {

void write_systems(const Conversation& conversation, PromptWriter& out) {
  bool first = true;
  for (const OrderedJson& message : conversation.messages) {
    if (!field_is(message, "role", "system")) continue;
    if (!first) out.own("\n\n");
    out.field(message, "content");
    first = false;
  }
}

void write_fenced_call(const OrderedJson& call, PromptWriter& out) {
  const OrderedJson& function = need_object(call, "function", out);
  out.own(kCallBegin).field(call, "type").own(kSep).field(function, "name").own("\n```json\n");
  out.field(function, "arguments").own("\n```").own(kCallEnd);
}

std::string_view answer_of(const OrderedJson& message, PromptWriter& out) {
  return after_last(need_text(message, "content", Use::kSearch, out), kThinkEnd);
}

}  // namespace sonde::deepseek
