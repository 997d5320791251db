// Qwen2.5: ChatML with a default system message, tools listed in it, calls as JSON in <tool_call>.
#include "text/dialects/chatml.h"
#include "text/python_text.h"

namespace sonde {
namespace {

constexpr std::string_view kDefaultSystem = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";

void write_assistant(const OrderedJson& message, PromptWriter& out) {
  out.own("<|im_start|>").field(message, "role");
  if (is_truthy(find_field(message, "content"))) out.own("\n").field(message, "content");
  for (const OrderedJson* item : calls_of(message, out)) {
    const OrderedJson* inner = find_field(*item, "function");
    const OrderedJson& call = inner ? *inner : *item;
    const OrderedJson arguments = chatml::arguments_of(call, out);
    if (out.failed()) return;
    out.own("\n<tool_call>\n{\"name\": \"")
        .printed(call, "name")
        .own("\", \"arguments\": ")
        .given(python_json(arguments))
        .own("}\n</tool_call>");
  }
  out.own("<|im_end|>\n");
}

void render(const Conversation& conversation, PromptWriter& out) {
  const OrderedJson& messages = conversation.messages;
  if (messages.empty()) return out.fail("list object has no element 0");
  const bool has_system = field_is(messages[0], "role", "system");
  out.own("<|im_start|>system\n");
  if (is_truthy(&conversation.tools)) {
    if (has_system) {
      out.printed(messages[0], "content");
    } else {
      out.own(kDefaultSystem);
    }
    chatml::write_tools(conversation.tools, "\n\n", out);
  } else {
    if (has_system) {
      out.field(messages[0], "content");
    } else {
      out.own(kDefaultSystem);
    }
    out.own("<|im_end|>\n");
  }
  for (size_t i = 0; i < messages.size() && !out.failed(); ++i) {
    const OrderedJson& message = messages[i];
    const bool assistant = field_is(message, "role", "assistant");
    if (field_is(message, "role", "user") || (field_is(message, "role", "system") && i > 0) ||
        (assistant && !is_truthy(find_field(message, "tool_calls")))) {
      out.own("<|im_start|>").field(message, "role").own("\n").field(message, "content").own("<|im_end|>\n");
    } else if (assistant) {
      write_assistant(message, out);
    } else if (field_is(message, "role", "tool")) {
      chatml::write_tool_result(messages, i, out);
    }
  }
  if (conversation.add_generation_prompt) out.own("<|im_start|>assistant\n");
}

}  // namespace

const NativeDialect& qwen2_5() {
  static const NativeDialect dialect = {"qwen2.5", "<|im_start|>assistant\n",          false,
                                        false,     {Reasoning::kNone, Calls::kHermes}, {chatml::kStart, chatml::kEnd},
                                        render};
  return dialect;
}

}  // namespace sonde
