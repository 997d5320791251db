#include "text/template_dialect.h"

#include <algorithm>

#include "text/dialects/deepseek.h"

namespace sonde {
namespace {

Conversation trial(bool generation_prompt) {
  Conversation conversation;
  conversation.messages = OrderedJson::array({{{"role", "user"}, {"content", "Hi"}}});
  conversation.add_generation_prompt = generation_prompt;
  return conversation;
}

// A conversation with one call; `object`: its arguments as an object, else as JSON text.
Conversation call_trial(bool object) {
  Conversation conversation = trial(false);
  const OrderedJson arguments = {{"probe", "value"}};
  OrderedJson function = {{"name", "look_up"}, {"arguments", object ? arguments : OrderedJson(arguments.dump())}};
  OrderedJson call = {{"id", "call_0"}, {"type", "function"}, {"function", std::move(function)}};
  OrderedJson message = {{"role", "assistant"}, {"content", ""}, {"tool_calls", OrderedJson::array({std::move(call)})}};
  conversation.messages.push_back(std::move(message));
  return conversation;
}

// The marks in a template that look like control tokens: <|...|>, <｜...｜> and think tags.
std::vector<std::string_view> find_controls(std::string_view source) {
  std::vector<std::string_view> found;
  const auto add = [&](std::string_view mark) {
    if (std::find(found.begin(), found.end(), mark) == found.end()) found.push_back(mark);
  };
  for (const auto& [open, close] : {std::pair<std::string_view, std::string_view>{"<|", "|>"}, {"<｜", "｜>"}}) {
    for (size_t at = source.find(open); at != source.npos; at = source.find(open, at + open.size())) {
      const size_t end = source.find(close, at + open.size());
      if (end == source.npos) break;
      const std::string_view inner = source.substr(at + open.size(), end - at - open.size());
      if (!inner.empty() && inner.size() <= 60 && inner.find_first_of("<>{}'\"| \n") == inner.npos)
        add(source.substr(at, end + close.size() - at));
    }
  }
  for (std::string_view tag : {deepseek::kThink, deepseek::kThinkEnd}) {
    if (const size_t at = source.find(tag); at != source.npos) add(source.substr(at, tag.size()));
  }
  return found;
}

}  // namespace

Result<std::shared_ptr<const TemplateDialect>> TemplateDialect::make(std::string_view source,
                                                                     TemplateVariables variables,
                                                                     const Tokenizer* tokenizer) {
  std::shared_ptr<TemplateDialect> dialect(new TemplateDialect());
  dialect->source_ = source;
  dialect->variables_ = std::move(variables);
  SONDE_TRY(dialect->template_, JinjaTemplate::parse(dialect->source_));
  dialect->controls_ = find_controls(dialect->source_);
  // The template is the model's own: a mark that its vocabulary lacks (tool marks in the distills) is plain text.
  if (tokenizer) std::erase_if(dialect->controls_, [&](std::string_view mark) { return !tokenizer->find(mark); });
  SONDE_CHECK(dialect->try_out());
  dialect->learn_style(tokenizer);
  return std::shared_ptr<const TemplateDialect>(std::move(dialect));
}

Status TemplateDialect::try_out() {
  SONDE_TRY(const Prompt open, template_->render(trial(true), variables_));
  SONDE_TRY(const Prompt closed, template_->render(trial(false), variables_));
  const std::string with = open.text(), without = closed.text();
  if (with.size() > without.size() && with.starts_with(without)) {
    generation_prompt_ = with.substr(without.size());
  } else if (!open.parts.empty() && open.parts.back().trusted) {
    generation_prompt_ = open.parts.back().text;  // written whatever add_generation_prompt says
  }
  std::string texts[2];
  for (const bool thinking : {false, true}) {
    Conversation conversation = trial(true);
    conversation.thinking = thinking;
    if (auto prompt = template_->render(conversation, variables_); prompt.ok()) texts[thinking] = prompt.value().text();
  }
  thinking_switch_ = texts[0] != texts[1];
  object_arguments_ = wants_objects();
  return {};
}

// Given text, a template that prints JSON writes it quoted and escaped, or fails; given an object it does neither.
bool TemplateDialect::wants_objects() const {
  const auto text = template_->render(call_trial(false), variables_);
  const auto object = template_->render(call_trial(true), variables_);
  if (!object.ok()) return false;
  return !text.ok() || (text.value().text().find("\\\"probe\\\"") != std::string::npos &&
                        object.value().text().find("\"probe\"") != std::string::npos);
}

void TemplateDialect::learn_style(const Tokenizer* tokenizer) {
  const auto written = [&](std::string_view mark) { return source_.find(mark) != std::string::npos; };
  const auto token = [&](std::string_view mark) { return tokenizer && tokenizer->find(mark).has_value(); };
  can_think_ = written(deepseek::kThinkEnd) || written(deepseek::kThink) ||
               (token(deepseek::kThink) && token(deepseek::kThinkEnd));
  if (written(deepseek::kSep)) {
    style_.calls = written("```json") ? Calls::kDeepseekFenced : Calls::kDeepseekPlain;
  } else if (written("<tool_call>")) {
    style_.calls = Calls::kHermes;
  } else if (written("<|python_tag|>") || (written("<|start_header_id|>") && written("\"parameters\""))) {
    style_.calls = Calls::kLlamaJson;
  } else if (token(deepseek::kSep)) {
    style_.calls = token("<｜search▁begin｜>") ? Calls::kDeepseekPlain : Calls::kDeepseekFenced;
  } else if (token("<tool_call>")) {
    style_.calls = Calls::kHermes;
  }
  const bool deepseek_calls = style_.calls == Calls::kDeepseekFenced || style_.calls == Calls::kDeepseekPlain;
  style_.reasoning = can_think_ || deepseek_calls ? Reasoning::kTags : Reasoning::kNone;
}

Result<Prompt> TemplateDialect::render(const Conversation& conversation) const {
  if (!object_arguments_ || !conversation.messages.is_array()) return template_->render(conversation, variables_);
  Conversation parsed = conversation;
  for (OrderedJson& message : parsed.messages) {
    if (!message.is_object() || !message.contains("tool_calls") || !message["tool_calls"].is_array()) continue;
    for (OrderedJson& call : message["tool_calls"]) {
      if (!call.is_object() || !call.contains("function") || !call["function"].is_object() ||
          !call["function"].contains("arguments"))
        continue;
      OrderedJson& arguments = call["function"]["arguments"];
      if (!arguments.is_string()) continue;
      OrderedJson value = OrderedJson::parse(arguments.get_ref<const std::string&>(), nullptr, false);
      if (value.is_discarded())
        return Error{Code::kInvalid, "the arguments of a tool call are not JSON", "chat template", "", "", ""};
      arguments = std::move(value);
    }
  }
  return template_->render(parsed, variables_);
}

}  // namespace sonde
