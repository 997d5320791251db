#include "text/dialect.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <algorithm>
#include <array>

#include "text/dialects/native.h"

namespace sonde {
namespace {

// One line for each dialect, in the order of --dialect's help.
constexpr std::array kNative = {
    &deepseek_v2,   &deepseek_v2_5,   &deepseek_v3,      &deepseek_v3_0324, &deepseek_r1, &deepseek_r1_0528,
    &deepseek_v3_1, &r1_distill_qwen, &r1_distill_llama, &qwen2_5,          &qwen3,       &llama3,
    &llama3_1,      &smollm2,
};

class Native final : public Dialect {
 public:
  explicit Native(const NativeDialect& dialect) : dialect_(dialect) {}

  std::string_view name() const override { return dialect_.name; }
  Result<Prompt> render(const Conversation& conversation) const override {
    SONDE_CHECK(check_conversation(conversation));
    PromptWriter out;
    dialect_.render(conversation, out);
    return std::move(out).take();
  }
  std::unique_ptr<OutputParser> parser(std::string_view prompt_end) const override {
    return make_output_parser(dialect_.output, prompt_end);
  }
  std::string_view generation_prompt() const override { return dialect_.generation_prompt; }
  bool can_think() const override { return dialect_.can_think; }
  bool thinking_switch() const override { return dialect_.thinking_switch; }
  std::span<const std::string_view> controls() const override { return dialect_.controls; }

 private:
  const NativeDialect& dialect_;
};

bool deeper_than(const OrderedJson& value, int levels) {
  if (!value.is_structured()) return false;
  if (levels == 0) return true;
  return std::any_of(value.begin(), value.end(),
                     [&](const OrderedJson& item) { return deeper_than(item, levels - 1); });
}

constexpr int kMaxJsonDepth = 200;

Error bad_conversation(std::string what, const OrderedJson& found) {
  return Error{Code::kInvalid, std::move(what), "conversation", "", std::string(found.type_name()), ""};
}

}  // namespace

Status check_conversation(const Conversation& conversation) {
  if (!conversation.messages.is_array()) return bad_conversation("messages must be an array", conversation.messages);
  for (const OrderedJson& message : conversation.messages) {
    if (!message.is_object()) return bad_conversation("every message must be an object", message);
  }
  if (!conversation.tools.is_null() && !conversation.tools.is_array()) {
    return bad_conversation("tools must be an array or null", conversation.tools);
  }
  if (deeper_than(conversation.messages, kMaxJsonDepth) || deeper_than(conversation.tools, kMaxJsonDepth)) {
    return Error{Code::kTooLarge,
                 "values are nested too deeply",
                 "conversation",
                 fmt::format("at most {} levels", kMaxJsonDepth),
                 "",
                 ""};
  }
  return {};
}

std::string Prompt::text() const {
  std::string all;
  for (const PromptPart& part : parts) all += part.text;
  return all;
}

std::vector<std::string_view> dialect_names() {
  std::vector<std::string_view> names;
  for (const auto& dialect : kNative) names.push_back(dialect().name);
  return names;
}

Result<std::shared_ptr<const Dialect>> dialect_by_name(std::string_view name) {
  for (const auto& dialect : kNative) {
    if (dialect().name == name) return std::shared_ptr<const Dialect>(std::make_shared<Native>(dialect()));
  }
  return Error{Code::kNotFound,   "unknown dialect",
               "--dialect",       fmt::format("one of {}", fmt::join(dialect_names(), ", ")),
               std::string(name), ""};
}

void repair(Conversation& conversation) {
  if (!conversation.messages.is_array()) return;
  for (OrderedJson& message : conversation.messages) {
    if (!message.is_object()) continue;
    OrderedJson& content = message["content"];
    if (content.is_null()) {
      content = "";
    } else if (content.is_array()) {
      const auto is_text = [](const OrderedJson& part) {
        return part.is_string() ||
               (field_is(part, "type", "text") && find_field(part, "text") && find_field(part, "text")->is_string());
      };
      if (!std::all_of(content.begin(), content.end(), is_text)) continue;  // render() says what is wrong with it
      std::string joined;
      for (const OrderedJson& part : content)
        joined += part.is_string() ? part.get<std::string>() : part["text"].get<std::string>();
      content = std::move(joined);
    }
    // An absent list and an empty or null one mean the same; templates ask whether the key is there.
    const OrderedJson* calls = find_field(message, "tool_calls");
    if (calls && (calls->is_null() || (calls->is_array() && calls->empty()))) message.erase("tool_calls");
    if (is_none(find_field(message, "reasoning_content"))) message.erase("reasoning_content");
    if (!calls || !message.contains("tool_calls") || !message["tool_calls"].is_array()) continue;
    for (OrderedJson& call : message["tool_calls"]) {
      if (!call.is_object()) continue;
      if (!call.contains("type")) call["type"] = "function";
      if (OrderedJson* function = call.contains("function") ? &call["function"] : nullptr;
          function && function->is_object()) {
        if (!function->contains("arguments") || (*function)["arguments"].is_null()) (*function)["arguments"] = "{}";
      }
    }
  }
  if (conversation.tools.is_array() && conversation.tools.empty()) conversation.tools = nullptr;
}

}  // namespace sonde
