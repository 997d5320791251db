// DeepSeek-V2 chat: plain words for the roles.
#include "text/dialects/deepseek.h"

namespace sonde {
namespace {

void render(const Conversation& conversation, PromptWriter& out) {
  out.own(deepseek::kBos);
  for (const OrderedJson& message : conversation.messages) {
    if (field_is(message, "role", "user")) {
      out.own("User: ").field(message, "content").own("\n\n");
    } else if (field_is(message, "role", "assistant")) {
      out.own("Assistant: ").field(message, "content").own(deepseek::kEos);
    } else if (field_is(message, "role", "system")) {
      out.field(message, "content").own("\n\n");
    }
  }
  if (conversation.add_generation_prompt) out.own("Assistant:");
}

}  // namespace

const NativeDialect& deepseek_v2() {
  static const NativeDialect dialect = {
      "deepseek-v2", "Assistant:", false, false, {Reasoning::kNone, Calls::kNone}, {deepseek::kBos, deepseek::kEos},
      render};
  return dialect;
}

}  // namespace sonde
