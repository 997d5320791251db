#include "text/dialects/native.h"

#include <fmt/format.h>

#include "text/python_text.h"

namespace sonde {
namespace {

const OrderedJson kNothing = OrderedJson::object();

std::string undefined(const char* key) { return fmt::format("'dict object' has no attribute '{}'", key); }

std::string unusable(const OrderedJson& value, Use use) {
  if (use == Use::kSearch) return fmt::format("argument of type '{}' is not iterable", python_type(value));
  return fmt::format("can only concatenate str (not \"{}\") to str", python_type(value));
}

}  // namespace

PromptWriter& PromptWriter::add(std::string_view text, bool trusted) {
  if (text.empty() || failed_) return *this;
  if (prompt_.parts.empty() || prompt_.parts.back().trusted != trusted) prompt_.parts.push_back({{}, trusted});
  prompt_.parts.back().text += text;
  return *this;
}

PromptWriter& PromptWriter::field(const OrderedJson& object, const char* key) {
  return given(need_text(object, key, Use::kConcatenate, *this));
}

PromptWriter& PromptWriter::printed(const OrderedJson& object, const char* key) {
  if (const OrderedJson* value = find_field(object, key)) given(python_str(*value));
  return *this;
}

void PromptWriter::fail(std::string what) {
  if (!failed_) what_ = std::move(what);
  failed_ = true;
}

Result<Prompt> PromptWriter::take() && {
  if (failed_) return Error{Code::kInvalid, what_, "chat template", "", "", ""};
  return std::move(prompt_);
}

const OrderedJson* find_field(const OrderedJson& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it == object.end() ? nullptr : &*it;
}

bool field_is(const OrderedJson& object, const char* key, std::string_view text) {
  const OrderedJson* value = find_field(object, key);
  return value && value->is_string() && value->get_ref<const std::string&>() == text;
}

bool is_none(const OrderedJson* value) { return value && value->is_null(); }

bool is_truthy(const OrderedJson* value) {
  if (!value || value->is_null()) return false;
  if (value->is_boolean()) return value->get<bool>();
  if (value->is_number()) return value->get<double>() != 0;
  if (value->is_string()) return !value->get_ref<const std::string&>().empty();
  return !value->empty();
}

std::string_view need_text(const OrderedJson& object, const char* key, Use use, PromptWriter& out) {
  const OrderedJson* value = find_field(object, key);
  if (!value) {
    out.fail(undefined(key));
  } else if (!value->is_string()) {
    out.fail(unusable(*value, use));
  } else {
    return value->get_ref<const std::string&>();
  }
  return {};
}

std::vector<const OrderedJson*> calls_of(const OrderedJson& message, PromptWriter& out) {
  std::vector<const OrderedJson*> calls;
  const OrderedJson* list = find_field(message, "tool_calls");
  if (!list) return calls;
  if (!list->is_array()) {
    out.fail(fmt::format("'{}' object is not iterable", python_type(*list)));
    return calls;
  }
  for (const OrderedJson& call : *list) calls.push_back(&call);
  return calls;
}

const OrderedJson& need_object(const OrderedJson& object, const char* key, PromptWriter& out) {
  const OrderedJson* value = find_field(object, key);
  if (value && value->is_object()) return *value;
  out.fail(undefined(key));
  return kNothing;
}

std::string_view after_last(std::string_view text, std::string_view mark) {
  const size_t at = text.rfind(mark);
  return at == text.npos ? text : text.substr(at + mark.size());
}

}  // namespace sonde
