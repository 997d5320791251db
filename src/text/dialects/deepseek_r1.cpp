// DeepSeek-R1: calls are always closed and may follow text; the prompt opens the thought.
#include "text/dialects/deepseek.h"

namespace sonde {
namespace {

using namespace deepseek;

constexpr std::string_view kGenerationPrompt = "<｜Assistant｜><think>\n";

void render(const Conversation& conversation, PromptWriter& out) {
  out.own(kBos);
  write_systems(conversation, out);
  bool called = false, in_outputs = false, outputs_opened = false;
  for (const OrderedJson& message : conversation.messages) {
    if (field_is(message, "role", "user")) {
      in_outputs = false;
      out.own(kUser).field(message, "content");
    } else if (field_is(message, "role", "assistant") && find_field(message, "tool_calls")) {
      in_outputs = false;
      for (const OrderedJson* call : calls_of(message, out)) {
        if (called) {  // the published template counts calls over the whole conversation
          out.own("\n");
        } else {
          out.own(kAssistant);
          if (!is_none(find_field(message, "content"))) out.field(message, "content");
          out.own(kCallsBegin);
        }
        write_fenced_call(*call, out);
        called = true;
      }
      out.own(kCallsEnd).own(kEos);
    } else if (field_is(message, "role", "assistant")) {
      if (in_outputs) {
        out.own(kOutputsEnd).field(message, "content").own(kEos);
        in_outputs = false;
      } else {
        out.own(kAssistant).given(answer_of(message, out)).own(kEos);
      }
    } else if (field_is(message, "role", "tool")) {
      in_outputs = true;
      if (!outputs_opened) out.own(kOutputsBegin);
      out.own(kOutputBegin).field(message, "content").own(kOutputEnd);
      outputs_opened = true;
    }
  }
  if (in_outputs) out.own(kOutputsEnd);
  if (conversation.add_generation_prompt && !in_outputs) out.own(kGenerationPrompt);
}

}  // namespace

const NativeDialect& deepseek_r1() {
  static const NativeDialect dialect = {
      "deepseek-r1", kGenerationPrompt, true, false, {Reasoning::kTags, Calls::kDeepseekFenced}, controls(true),
      render};
  return dialect;
}

}  // namespace sonde
