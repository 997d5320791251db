// DeepSeek-V3.1: one model, two modes; the prompt ends with an open or a closed thought.
#include "text/dialects/deepseek.h"

namespace sonde {
namespace {

using namespace deepseek;

void write_calls(const OrderedJson& message, PromptWriter& out) {
  bool called = false;
  for (const OrderedJson* call : calls_of(message, out)) {
    if (!called) {
      if (!is_none(find_field(message, "content"))) out.field(message, "content");
      out.own(kCallsBegin);
    }
    const OrderedJson& function = need_object(*call, "function", out);
    out.own(kCallBegin).field(function, "name").own(kSep).field(function, "arguments").own(kCallEnd);
    called = true;
  }
  out.own(kCallsEnd).own(kEos);
}

void render(const Conversation& conversation, PromptWriter& out) {
  const bool thinking = conversation.thinking.value_or(false);
  out.own(kBos);
  write_systems(conversation, out);
  bool after_output = false, after_user = false;
  for (const OrderedJson& message : conversation.messages) {
    const OrderedJson* calls = find_field(message, "tool_calls");
    if (field_is(message, "role", "user")) {
      after_output = false;
      after_user = true;
      out.own(kUser).field(message, "content");
    } else if (field_is(message, "role", "assistant") && calls && !calls->is_null()) {
      if (after_user) out.own(kAssistant).own(kThinkEnd);
      after_user = after_output = false;
      write_calls(message, out);
    } else if (field_is(message, "role", "assistant")) {
      if (after_user)
        out.own(kAssistant).own(is_truthy(find_field(message, "prefix")) && thinking ? kThink : kThinkEnd);
      after_user = false;
      if (after_output) {
        out.field(message, "content").own(kEos);
        after_output = false;
      } else {
        std::string_view content = need_text(message, "content", Use::kSearch, out);
        if (const size_t at = content.find(kThinkEnd); at != content.npos) content.remove_prefix(at + kThinkEnd.size());
        out.given(content).own(kEos);
      }
    } else if (field_is(message, "role", "tool")) {
      after_user = false;
      after_output = true;
      out.own(kOutputBegin).field(message, "content").own(kOutputEnd);
    }
  }
  if (conversation.add_generation_prompt && after_user) out.own(kAssistant).own(thinking ? kThink : kThinkEnd);
}

}  // namespace

const NativeDialect& deepseek_v3_1() {
  static const NativeDialect dialect = {
      "deepseek-v3.1", "<｜Assistant｜></think>", true, true, {Reasoning::kTags, Calls::kDeepseekPlain}, controls(true),
      render};
  return dialect;
}

}  // namespace sonde
