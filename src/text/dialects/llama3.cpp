// Llama 3 and Llama 3.1.
#include "text/dialects/chatml.h"
#include "text/python_text.h"

namespace sonde {
namespace {

constexpr std::string_view kHead = "<|start_header_id|>", kHeadEnd = "<|end_header_id|>\n\n", kTurnEnd = "<|eot_id|>";
constexpr std::string_view kBos = "<|begin_of_text|>";
constexpr std::string_view kGenerationPrompt = "<|start_header_id|>assistant<|end_header_id|>\n\n";

// content | trim: None becomes the word, an absent value nothing.
std::string trimmed(const OrderedJson& message) {
  const OrderedJson* value = find_field(message, "content");
  return value ? std::string(python_strip(python_str(*value))) : std::string();
}

void render_3(const Conversation& conversation, PromptWriter& out) {
  bool first = true;
  for (const OrderedJson& message : conversation.messages) {
    if (first) out.own(kBos);
    first = false;
    out.own(kHead).field(message, "role").own(kHeadEnd).given(trimmed(message)).own(kTurnEnd);
  }
  out.own(kGenerationPrompt);  // the published template writes it whatever add_generation_prompt says
}

void write_call(const OrderedJson& message, PromptWriter& out) {
  const std::vector<const OrderedJson*> calls = calls_of(message, out);
  if (out.failed()) return;
  if (calls.size() != 1) return out.fail("This model only supports single tool-calls at once!");
  const OrderedJson& call = need_object(*calls[0], "function", out);
  const OrderedJson arguments = chatml::arguments_of(call, out);
  if (out.failed()) return;
  out.own(kGenerationPrompt).own("{\"name\": \"").field(call, "name").own("\", \"parameters\": ");
  out.given(python_json(arguments)).own("}").own(kTurnEnd);
}

void write_message_3_1(const OrderedJson& message, PromptWriter& out) {
  const bool result = field_is(message, "role", "tool") || field_is(message, "role", "ipython");
  if (find_field(message, "tool_calls")) {
    write_call(message, out);
  } else if (result) {
    const OrderedJson* content = find_field(message, "content");
    out.own("<|start_header_id|>ipython<|end_header_id|>\n\n");
    if (content && (content->is_structured() || content->is_string())) {
      out.given(python_json(*content));
    } else {
      out.printed(message, "content");
    }
    out.own(kTurnEnd);
  } else {
    out.own(kHead).field(message, "role").own(kHeadEnd).given(trimmed(message)).own(kTurnEnd);
  }
}

void render_3_1(const Conversation& conversation, PromptWriter& out) {
  const OrderedJson& messages = conversation.messages;
  if (messages.empty()) return out.fail("list object has no element 0");
  const bool has_tools = !conversation.tools.is_null();
  size_t next = 0;
  out.own(kBos).own("<|start_header_id|>system<|end_header_id|>\n\n");
  if (has_tools) out.own("Environment: ipython\n");
  out.own("Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n");
  if (field_is(messages[0], "role", "system")) out.given(trimmed(messages[next++]));
  out.own(kTurnEnd);
  if (has_tools) {
    if (next == messages.size())
      return out.fail("Cannot put tools in the first user message when there's no first user message!");
    out.own(
        "<|start_header_id|>user<|end_header_id|>\n\n"
        "Given the following functions, please respond with a JSON for a function call with its proper arguments that "
        "best answers the "
        "given prompt.\n\nRespond in the format {\"name\": function name, \"parameters\": dictionary of argument name "
        "and its value}."
        "Do not use variables.\n\n");
    for (const OrderedJson& tool : conversation.tools)
      out.given(python_json(tool, {.indent = 4, .comma = {}, .colon = {}})).own("\n\n");
    out.given(trimmed(messages[next++])).own(kTurnEnd);
  }
  for (; next < messages.size() && !out.failed(); ++next) write_message_3_1(messages[next], out);
  if (conversation.add_generation_prompt) out.own(kGenerationPrompt);
}

}  // namespace

const NativeDialect& llama3() {
  static const NativeDialect dialect = {"llama3",
                                        kGenerationPrompt,
                                        false,
                                        false,
                                        {Reasoning::kNone, Calls::kNone},
                                        {kBos, kHead, "<|end_header_id|>", kTurnEnd},
                                        render_3};
  return dialect;
}

const NativeDialect& llama3_1() {
  static const NativeDialect dialect = {"llama3.1",
                                        kGenerationPrompt,
                                        false,
                                        false,
                                        {Reasoning::kNone, Calls::kLlamaJson},
                                        {kBos, kHead, "<|end_header_id|>", kTurnEnd},
                                        render_3_1};
  return dialect;
}

}  // namespace sonde
