#include "text/jinja.h"

#include "text/dialects/native.h"
#include "text/jinja_machine.h"

namespace sonde {

JinjaTemplate::JinjaTemplate() = default;
JinjaTemplate::~JinjaTemplate() = default;

Result<std::unique_ptr<JinjaTemplate>> JinjaTemplate::parse(std::string_view source) {
  SONDE_TRY(jinja::Nodes nodes, jinja::parse(source));
  std::unique_ptr<JinjaTemplate> parsed(new JinjaTemplate());
  parsed->nodes_ = std::move(nodes);
  return parsed;
}

void JinjaTemplate::limit(int64_t steps, int64_t bytes) {
  steps_ = steps;
  bytes_ = bytes;
}

Result<Prompt> JinjaTemplate::render(const Conversation& conversation, const TemplateVariables& variables) const {
  using jinja::Value;
  SONDE_CHECK(check_conversation(conversation));
  jinja::Limits limits;
  if (steps_ > 0) limits.steps = steps_;
  if (bytes_ > 0) limits.bytes = limits.output = bytes_;
  jinja::Machine machine(limits);
  machine.set_global("messages", jinja::from_json(conversation.messages, false));
  machine.set_global("tools", jinja::from_json(conversation.tools, false));
  machine.set_global("documents", Value::none());
  machine.set_global("add_generation_prompt", Value::boolean(conversation.add_generation_prompt));
  for (const auto& [name, text] : variables) machine.set_global(name, Value::own(text));
  if (conversation.thinking) {
    machine.set_global("thinking", Value::boolean(*conversation.thinking));
    machine.set_global("enable_thinking", Value::boolean(*conversation.thinking));
  }
  SONDE_TRY(const jinja::Text text, machine.run(nodes_));
  Prompt prompt;
  for (size_t at = 0; at < text.size();) {
    size_t end = at + 1;
    while (end < text.size() && text.own_at(end) == text.own_at(at)) ++end;
    prompt.parts.push_back({text.str().substr(at, end - at), text.own_at(at)});
    at = end;
  }
  return prompt;
}

}  // namespace sonde
