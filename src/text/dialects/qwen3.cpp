// Qwen3: thoughts are kept after the last question only; enable_thinking = false closes the thought in the prompt.
#include "text/dialects/chatml.h"
#include "text/python_text.h"

namespace sonde {
namespace {

constexpr std::string_view kThink = "<think>", kThinkEnd = "</think>";

// Index of the last user message that is a question and not a tool's result in disguise.
size_t last_question(const OrderedJson& messages, PromptWriter& out) {
  for (size_t i = messages.size(); i-- > 0;) {
    if (!field_is(messages[i], "role", "user")) continue;
    const OrderedJson* content = find_field(messages[i], "content");
    if (!content || !content->is_string()) {
      out.fail("the content of a user message has no attribute 'startswith'");
      return 0;
    }
    const std::string_view text = content->get_ref<const std::string&>();
    if (!(text.starts_with("<tool_response>") && text.ends_with("</tool_response>"))) return i;
  }
  return messages.size() - 1;
}

void write_calls(const OrderedJson& message, bool has_text, PromptWriter& out) {
  if (!is_truthy(find_field(message, "tool_calls"))) return;
  bool first = true;
  for (const OrderedJson* item : calls_of(message, out)) {
    if (!first || has_text) out.own("\n");
    first = false;
    const OrderedJson* inner = find_field(*item, "function");
    const OrderedJson& call = is_truthy(inner) ? *inner : *item;
    out.own("<tool_call>\n{\"name\": \"").printed(call, "name").own("\", \"arguments\": ");
    const OrderedJson* arguments = find_field(call, "arguments");
    if (!arguments) {
      out.fail("'dict object' has no attribute 'arguments'");
    } else {
      out.given(arguments->is_string() ? arguments->get<std::string>() : python_json(*arguments));
    }
    out.own("}\n</tool_call>");
  }
}

void write_assistant(const OrderedJson& message, bool recent, bool last, PromptWriter& out) {
  const OrderedJson* kept = find_field(message, "reasoning_content");
  std::string_view content, reasoning;
  if (kept && !kept->is_null()) {
    reasoning = need_text(message, "reasoning_content", Use::kConcatenate, out);
    content = need_text(message, "content", Use::kConcatenate, out);
  } else {
    content = need_text(message, "content", Use::kSearch, out);
    if (const size_t at = content.find(kThinkEnd); at != content.npos) {
      reasoning = lstrip_of(after_last(rstrip_of(content.substr(0, at), "\n"), kThink), "\n");
      content = lstrip_of(after_last(content, kThinkEnd), "\n");
    }
  }
  out.own("<|im_start|>").field(message, "role").own("\n");
  if (recent && (last || !reasoning.empty())) {
    const std::string_view inner = rstrip_of(lstrip_of(reasoning, "\n"), "\n");
    out.own("<think>\n").given(inner).own("\n</think>\n\n").given(lstrip_of(content, "\n"));
  } else {
    out.given(content);
  }
  write_calls(message, !content.empty(), out);
  out.own("<|im_end|>\n");
}

void render(const Conversation& conversation, PromptWriter& out) {
  const OrderedJson& messages = conversation.messages;
  if (messages.empty()) return out.fail("list object has no element 0");
  const bool has_system = field_is(messages[0], "role", "system");
  if (is_truthy(&conversation.tools)) {
    out.own("<|im_start|>system\n");
    if (has_system) out.field(messages[0], "content").own("\n\n");
    chatml::write_tools(conversation.tools, "", out);
  } else if (has_system) {
    out.own("<|im_start|>system\n").field(messages[0], "content").own("<|im_end|>\n");
  }
  const size_t question = last_question(messages, out);
  for (size_t i = 0; i < messages.size() && !out.failed(); ++i) {
    const OrderedJson& message = messages[i];
    if (field_is(message, "role", "user") || (field_is(message, "role", "system") && i > 0)) {
      out.own("<|im_start|>").field(message, "role").own("\n").field(message, "content").own("<|im_end|>\n");
    } else if (field_is(message, "role", "assistant")) {
      write_assistant(message, i > question, i + 1 == messages.size(), out);
    } else if (field_is(message, "role", "tool")) {
      chatml::write_tool_result(messages, i, out);
    }
  }
  if (!conversation.add_generation_prompt) return;
  out.own("<|im_start|>assistant\n");
  if (conversation.thinking == false) out.own("<think>\n\n</think>\n\n");
}

}  // namespace

const NativeDialect& qwen3() {
  static const NativeDialect dialect = {
      "qwen3", "<|im_start|>assistant\n",          true,
      true,    {Reasoning::kTags, Calls::kHermes}, {chatml::kStart, chatml::kEnd, kThink, kThinkEnd},
      render};
  return dialect;
}

}  // namespace sonde
