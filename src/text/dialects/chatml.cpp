#include "text/dialects/chatml.h"

#include "text/python_text.h"

namespace sonde::chatml {

void write_tools(const OrderedJson& tools, std::string_view heading, PromptWriter& out) {
  out.own(heading).own(
      "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function "
      "signatures within "
      "<tools></tools> XML tags:\n<tools>");
  for (const OrderedJson& tool : tools) out.own("\n").given(python_json(tool));
  out.own(
      "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
      "<tool_call></tool_call> XML "
      "tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n");
}

void write_tool_result(const OrderedJson& messages, size_t index, PromptWriter& out) {
  if (index == 0 || !field_is(messages[index - 1], "role", "tool")) out.own("<|im_start|>user");
  out.own("\n<tool_response>\n").printed(messages[index], "content").own("\n</tool_response>");
  if (index + 1 == messages.size() || !field_is(messages[index + 1], "role", "tool")) out.own("<|im_end|>\n");
}

OrderedJson arguments_of(const OrderedJson& function, PromptWriter& out) {
  const OrderedJson* value = find_field(function, "arguments");
  if (!value) {
    out.fail("'dict object' has no attribute 'arguments'");
    return nullptr;
  }
  if (!value->is_string()) return *value;
  OrderedJson parsed = OrderedJson::parse(value->get_ref<const std::string&>(), nullptr, false);
  if (parsed.is_discarded()) out.fail("the arguments of a tool call are not JSON");
  return parsed;
}

}  // namespace sonde::chatml
