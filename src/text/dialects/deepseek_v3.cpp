// DeepSeek-V2.5, DeepSeek-V3 and the R1 distills: the published templates are one text with small differences. Their
// quirks are kept: the calls are closed only after a second call, "first call" and the outputs' opening mark count for
// the whole conversation, a message with text loses its calls.
#include "text/dialects/deepseek.h"
#include "text/python_text.h"

namespace sonde {
namespace {

using namespace deepseek;

struct Variant {
  bool all_systems;      // V3 keeps all system messages, the others the last one
  bool indented_bos;     // V2.5 writes eight spaces for every system message, in front of BOS
  bool drops_reasoning;  // the distills cut what was thought out of the history
  std::string_view generation_prompt;
};

void write_last_system(const Conversation& conversation, PromptWriter& out) {
  const OrderedJson* last = nullptr;
  for (const OrderedJson& message : conversation.messages) {
    if (field_is(message, "role", "system")) last = &message;
  }
  if (last) out.printed(*last, "content");
}

void render_first_form(const Conversation& conversation, const Variant& variant, PromptWriter& out) {
  if (variant.indented_bos) {
    for (const OrderedJson& message : conversation.messages) {
      if (field_is(message, "role", "system")) out.own("        ");
    }
  }
  out.own(kBos);
  if (variant.all_systems) {
    write_systems(conversation, out);
  } else {
    write_last_system(conversation, out);
  }
  bool called = false, in_outputs = false, outputs_opened = false;
  for (const OrderedJson& message : conversation.messages) {
    if (field_is(message, "role", "user")) {
      in_outputs = false;
      out.own(kUser).field(message, "content");
    } else if (field_is(message, "role", "assistant") && is_none(find_field(message, "content"))) {
      in_outputs = false;
      for (const OrderedJson* call : calls_of(message, out)) {
        out.own(called ? "\n" : "");
        if (!called) out.own(kAssistant).own(kCallsBegin);
        write_fenced_call(*call, out);
        if (called) out.own(kCallsEnd).own(kEos);
        called = true;
      }
    } else if (field_is(message, "role", "assistant")) {
      if (in_outputs) {
        out.own(kOutputsEnd).field(message, "content").own(kEos);
        in_outputs = false;
      } else if (variant.drops_reasoning) {
        out.own(kAssistant).given(answer_of(message, out)).own(kEos);
      } else {
        out.own(kAssistant).field(message, "content").own(kEos);
      }
    } else if (field_is(message, "role", "tool")) {
      in_outputs = true;
      out.own(outputs_opened ? "\n" : kOutputsBegin);
      out.own(kOutputBegin).field(message, "content").own(kOutputEnd);
      outputs_opened = true;
    }
  }
  if (in_outputs) out.own(kOutputsEnd);
  if (conversation.add_generation_prompt && !in_outputs) out.own(variant.generation_prompt);
}

constexpr Variant kV25 = {false, true, false, kAssistant};
constexpr Variant kV3 = {true, false, false, kAssistant};
constexpr Variant kDistill = {false, false, true, "<｜Assistant｜><think>\n"};

// The distills' vocabularies have no tokens for tools: those marks are plain text there.
NativeDialect distill(std::string_view name) {
  return {name,
          kDistill.generation_prompt,
          true,
          false,
          {Reasoning::kTags, Calls::kDeepseekFenced},
          {kBos, kEos, kUser, kAssistant, kThink, kThinkEnd},
          [](const Conversation& c, PromptWriter& out) { render_first_form(c, kDistill, out); }};
}

}  // namespace

const NativeDialect& deepseek_v2_5() {
  static const NativeDialect dialect = {
      "deepseek-v2.5",
      kAssistant,
      false,
      false,
      {Reasoning::kNone, Calls::kDeepseekFenced},
      controls(false),
      [](const Conversation& c, PromptWriter& out) { render_first_form(c, kV25, out); }};
  return dialect;
}

const NativeDialect& deepseek_v3() {
  static const NativeDialect dialect = {
      "deepseek-v3",
      kAssistant,
      false,
      false,
      {Reasoning::kTags, Calls::kDeepseekFenced},
      controls(false),
      [](const Conversation& c, PromptWriter& out) { render_first_form(c, kV3, out); }};
  return dialect;
}

const NativeDialect& r1_distill_qwen() {
  static const NativeDialect dialect = distill("r1-distill-qwen");
  return dialect;
}

const NativeDialect& r1_distill_llama() {
  static const NativeDialect dialect = distill("r1-distill-llama");
  return dialect;
}

}  // namespace sonde
