// Bodies of tool-call blocks, once they are whole.
#include <fmt/format.h>

#include "text/dialects/deepseek.h"
#include "text/output_parser.h"
#include "text/python_text.h"

namespace sonde {
namespace {

using namespace deepseek;

bool only_newlines(std::string_view text) { return text.find_first_not_of('\n') == text.npos; }

// NAME\n```json\nARGUMENTS\n```
std::optional<ToolCallText> parse_fenced(std::string_view text) {
  constexpr std::string_view kOpen = "\n```json\n", kClose = "\n```";
  const size_t line = text.find('\n');
  if (line == text.npos) return std::nullopt;
  const std::string_view name = text.substr(0, line);
  text.remove_prefix(line);
  if (!text.starts_with(kOpen) || !text.ends_with(kClose) || text.size() < kOpen.size() + kClose.size())
    return std::nullopt;
  text.remove_prefix(kOpen.size());
  text.remove_suffix(kClose.size());
  return ToolCallText{std::string(name), std::string(text)};
}

constexpr std::string_view kJsonSpace = " \t\r\n";

size_t skip_space(std::string_view text, size_t at) {
  at = text.find_first_not_of(kJsonSpace, at);
  return at == text.npos ? text.size() : at;
}

size_t skip_string(std::string_view text, size_t at) {
  for (++at; at < text.size(); ++at) {
    if (text[at] == '\\') {
      ++at;
    } else if (text[at] == '"') {
      return at + 1;
    }
  }
  return text.size();
}

// End of the value at `at` in well-formed JSON.
size_t skip_value(std::string_view text, size_t at) {
  int depth = 0;
  while (at < text.size()) {
    const char c = text[at];
    if (c == '"') {
      at = skip_string(text, at);
    } else if (c == '{' || c == '[') {
      ++depth;
      ++at;
    } else if (c == '}' || c == ']') {
      if (depth == 0) return at;
      --depth;
      ++at;
    } else if (depth == 0 && (c == ',' || kJsonSpace.find(c) != kJsonSpace.npos)) {
      return at;
    } else {
      ++at;
      continue;
    }
    if (depth == 0) return at;
  }
  return at;
}

// The value of `key` as it is written in a well-formed JSON object; the last one counts.
std::optional<std::string_view> raw_member(std::string_view text, std::string_view key) {
  std::optional<std::string_view> found;
  size_t at = skip_space(text, 0) + 1;
  while (at < text.size()) {
    at = skip_space(text, at);
    if (at >= text.size() || text[at] != '"') break;
    const size_t key_end = skip_string(text, at);
    const OrderedJson name = OrderedJson::parse(text.substr(at, key_end - at), nullptr, false);
    at = skip_space(text, skip_space(text, key_end) + 1);  // past the colon
    const size_t end = skip_value(text, at);
    if (name.is_string() && name.get_ref<const std::string&>() == key) found = text.substr(at, end - at);
    at = skip_space(text, end) + 1;  // past the comma
  }
  return found;
}

}  // namespace

std::optional<std::vector<ToolCallText>> parse_deepseek_calls(std::string_view body, bool fenced) {
  std::vector<ToolCallText> calls;
  size_t at = 0;
  while (true) {
    const size_t begin = body.find(kCallBegin, at);
    const size_t sep = begin == body.npos ? body.npos : body.find(kSep, begin + kCallBegin.size());
    const size_t end = sep == body.npos ? body.npos : body.find(kCallEnd, sep + kSep.size());
    if (end == body.npos) break;
    if (!only_newlines(body.substr(at, begin - at))) return std::nullopt;
    const std::string_view head = body.substr(begin + kCallBegin.size(), sep - begin - kCallBegin.size());
    const std::string_view tail = body.substr(sep + kSep.size(), end - sep - kSep.size());
    std::optional<ToolCallText> call;
    if (!fenced) {
      call = ToolCallText{std::string(head), std::string(tail)};
    } else if (head == "function") {
      call = parse_fenced(tail);
    }
    if (!call || !OrderedJson::accept(call->arguments)) return std::nullopt;
    calls.push_back(std::move(*call));
    at = end + kCallEnd.size();
  }
  if (calls.empty() || !only_newlines(body.substr(at))) return std::nullopt;
  return calls;
}

std::optional<ToolCallText> parse_json_call(std::string_view text, std::string_view key) {
  const OrderedJson call = OrderedJson::parse(text, nullptr, false);
  if (!call.is_object()) return std::nullopt;
  const auto name = call.find("name");
  if (name == call.end() || !name->is_string() || name->get_ref<const std::string&>().empty()) return std::nullopt;
  ToolCallText result{name->get<std::string>(), "{}"};
  const std::string key_name(key);
  const auto arguments = call.find(key_name);
  if (arguments == call.end()) return result;
  if (arguments->is_string()) {
    result.arguments = arguments->get<std::string>();
  } else if (const auto raw = raw_member(text, key)) {
    result.arguments = *raw;
  }
  return result;
}

}  // namespace sonde
