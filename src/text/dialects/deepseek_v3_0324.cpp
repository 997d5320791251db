// DeepSeek-V3-0324 and DeepSeek-R1-0528: the user's turn opens the assistant's; calls and outputs are counted anew in
// every round.
#include "text/dialects/deepseek.h"

namespace sonde {
namespace {

using namespace deepseek;

void render_0324(const Conversation& conversation, bool drops_reasoning, PromptWriter& out) {
  out.own(kBos);
  write_systems(conversation, out);
  bool in_outputs = false, outputs_opened = false, after_user = false;
  for (const OrderedJson& message : conversation.messages) {
    const OrderedJson* calls = find_field(message, "tool_calls");
    const OrderedJson* content = find_field(message, "content");
    if (field_is(message, "role", "user")) {
      in_outputs = false;
      after_user = true;
      out.own(kUser).field(message, "content").own(kAssistant);
    } else if (field_is(message, "role", "assistant") && calls && !calls->is_null()) {
      const std::string_view answer = drops_reasoning ? answer_of(message, out) : std::string_view();
      after_user = false;
      if (in_outputs) out.own(kOutputsEnd);
      in_outputs = outputs_opened = false;
      bool called = false;
      for (const OrderedJson* call : calls_of(message, out)) {
        if (called) {
          out.own("\n");
        } else {
          if (drops_reasoning) {
            out.given(answer);
          } else if (!is_none(content)) {
            out.field(message, "content");
          }
          out.own(kCallsBegin);
        }
        write_fenced_call(*call, out);
        called = true;
      }
      out.own(kCallsEnd).own(kEos);
    } else if (field_is(message, "role", "assistant")) {
      after_user = false;
      if (in_outputs) out.own(kOutputsEnd);
      in_outputs = false;
      if (drops_reasoning) {
        out.given(answer_of(message, out)).own(kEos);
      } else {
        out.field(message, "content").own(kEos);
      }
    } else if (field_is(message, "role", "tool")) {
      after_user = false;
      in_outputs = true;
      out.own(outputs_opened ? "\n" : kOutputsBegin).own(kOutputBegin).field(message, "content").own(kOutputEnd);
      outputs_opened = true;
    }
  }
  if (in_outputs) out.own(kOutputsEnd);
  if (conversation.add_generation_prompt && !after_user && !in_outputs) out.own(kAssistant);
}

}  // namespace

const NativeDialect& deepseek_v3_0324() {
  static const NativeDialect dialect = {"deepseek-v3-0324",
                                        kAssistant,
                                        false,
                                        false,
                                        {Reasoning::kTags, Calls::kDeepseekFenced},
                                        controls(false),
                                        [](const Conversation& c, PromptWriter& out) { render_0324(c, false, out); }};
  return dialect;
}

const NativeDialect& deepseek_r1_0528() {
  static const NativeDialect dialect = {"deepseek-r1-0528",
                                        kAssistant,
                                        true,
                                        false,
                                        {Reasoning::kTags, Calls::kDeepseekFenced},
                                        controls(true),
                                        [](const Conversation& c, PromptWriter& out) { render_0324(c, true, out); }};
  return dialect;
}

}  // namespace sonde
