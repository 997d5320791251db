// Methods of texts, lists and dictionaries, and the functions that every template may call.
#include <fmt/format.h>
#include <utf8proc.h>
#include <algorithm>
#include <ctime>

#include "text/jinja_machine.h"
#include "text/jinja_text.h"
#include "text/python_text.h"

namespace sonde::jinja {

Text map_case(const Text& text, Case to) {
  Text out;
  bool word = false;  // inside a word, for kTitle; past the first character, for kCapitalize
  const std::vector<size_t> starts = characters(text.view());
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    const std::string_view piece = text.view().substr(starts[i], starts[i + 1] - starts[i]);
    utf8proc_int32_t code = -1;
    utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(piece.data()),
                     static_cast<utf8proc_ssize_t>(piece.size()), &code);
    const bool upper = to == Case::kUpper || ((to == Case::kTitle || to == Case::kCapitalize) && !word);
    const bool letter = code >= 0 && (utf8proc_tolower(code) != code || utf8proc_toupper(code) != code);
    word = to == Case::kCapitalize || letter;
    if (code < 0) {
      out.append(piece, text.own_at(starts[i]));
      continue;
    }
    utf8proc_uint8_t bytes[4];
    const auto n = utf8proc_encode_char(upper ? utf8proc_toupper(code) : utf8proc_tolower(code), bytes);
    out.append(std::string_view(reinterpret_cast<const char*>(bytes), static_cast<size_t>(n)), text.own_at(starts[i]));
  }
  return out;
}

Text replace_all(const Text& text, std::string_view from, const Text& to, int64_t count) {
  Text out;
  size_t at = 0;
  if (from.empty()) return text;
  while (count != 0) {
    const size_t next = text.view().find(from, at);
    if (next == std::string_view::npos) break;
    out.append(text.sub(at, next - at));
    out.append(to);
    at = next + from.size();
    --count;
  }
  out.append(text.sub(at));
  return out;
}

namespace {

std::string_view text_argument(Machine& machine, const Arguments& arguments, int i, std::string_view name) {
  const Value* value = arguments.get(i, name);
  if (value && value->is_text()) return value->as_text().view();
  machine.fail(fmt::format("argument {} must be a string", i + 1));
  return {};
}

int64_t integer_argument(Machine& machine, const Arguments& arguments, int i, std::string_view name,
                         int64_t otherwise) {
  const Value* value = arguments.get(i, name);
  if (!value || value->is_none()) return otherwise;
  if (value->is_integer() || value->is_boolean()) return value->as_integer();
  machine.fail(fmt::format("argument {} must be an integer", i + 1));
  return otherwise;
}

Value strip(Machine& machine, const Text& text, const Arguments& arguments, bool left, bool right) {
  std::string_view view = text.view();
  const Value* characters = arguments.get(0, "chars");
  if (characters && !characters->is_none()) {
    const std::string_view set = text_argument(machine, arguments, 0, "chars");
    if (left) view = lstrip_of(view, set);
    if (right) view = rstrip_of(view, set);
  } else {
    if (left) view = python_lstrip(view);
    if (right) view = python_rstrip(view);
  }
  return machine.make_text(view.empty() ? Text() : text.sub(view));
}

Value split_words(Machine& machine, const Text& text, int64_t limit) {
  std::vector<Value> parts;
  std::string_view rest = python_lstrip(text.view());
  while (!rest.empty() && !machine.failed()) {
    if (limit == 0) {
      parts.push_back(machine.make_text(text.sub(python_rstrip(rest))));
      break;
    }
    size_t n = 0;  // up to the next white space
    while (n < rest.size() && python_lstrip(rest.substr(n)).size() == rest.size() - n) ++n;
    parts.push_back(machine.make_text(text.sub(rest.substr(0, n))));
    rest = python_lstrip(rest.substr(n));
    --limit;
  }
  return machine.make_list(std::move(parts));
}

Value split(Machine& machine, const Text& text, const Arguments& arguments, bool from_right) {
  const int64_t limit = integer_argument(machine, arguments, 1, "maxsplit", -1);
  const Value* separator = arguments.get(0, "sep");
  if (!separator || separator->is_none()) return split_words(machine, text, limit);
  const std::string_view mark = text_argument(machine, arguments, 0, "sep");
  if (machine.failed()) return {};
  if (mark.empty()) return machine.fail("empty separator");
  std::vector<size_t> cuts;
  for (size_t at = text.view().find(mark); at != std::string_view::npos; at = text.view().find(mark, at + mark.size()))
    cuts.push_back(at);
  if (limit >= 0 && cuts.size() > static_cast<size_t>(limit)) {
    const auto keep = static_cast<ptrdiff_t>(limit);
    from_right ? cuts.erase(cuts.begin(), cuts.end() - keep) : cuts.erase(cuts.begin() + keep, cuts.end());
  }
  std::vector<Value> parts;
  size_t at = 0;
  for (size_t cut : cuts) {
    parts.push_back(machine.make_text(text.sub(at, cut - at)));
    at = cut + mark.size();
  }
  parts.push_back(machine.make_text(text.sub(at)));
  return machine.failed() ? Value() : machine.make_list(std::move(parts));
}

Value split_lines(Machine& machine, const Text& text) {
  std::vector<Value> lines;
  size_t at = 0;
  while (at < text.size() && !machine.failed()) {
    const size_t end = std::min(text.view().find_first_of("\r\n", at), text.size());
    lines.push_back(machine.make_text(text.sub(at, end - at)));
    at = end + (text.view().substr(end).starts_with("\r\n") ? 2 : 1);
  }
  return machine.make_list(std::move(lines));
}

bool affix(Machine& machine, const Text& text, const Arguments& arguments, bool prefix) {
  const Value* value = arguments.get(0, "prefix");
  if (value && value->is_list()) {
    for (const Value& one : value->as_list().items) {
      if (one.is_text() &&
          (prefix ? text.view().starts_with(one.as_text().view()) : text.view().ends_with(one.as_text().view())))
        return true;
    }
    return false;
  }
  const std::string_view part = text_argument(machine, arguments, 0, "prefix");
  return prefix ? text.view().starts_with(part) : text.view().ends_with(part);
}

bool all_of(const Text& text, bool (*is)(utf8proc_int32_t)) {
  const std::vector<size_t> starts = characters(text.view());
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    utf8proc_int32_t code = -1;
    utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.view().data() + starts[i]),
                     static_cast<utf8proc_ssize_t>(starts[i + 1] - starts[i]), &code);
    if (code < 0 || !is(code)) return false;
  }
  return !text.empty();
}

bool is_letter(utf8proc_int32_t c) {
  const auto category = utf8proc_category(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}
bool is_digit(utf8proc_int32_t c) { return utf8proc_category(c) == UTF8PROC_CATEGORY_ND; }

Value text_method(Machine& machine, const Text& text, std::string_view name, const Arguments& arguments) {
  if (name == "strip") return strip(machine, text, arguments, true, true);
  if (name == "lstrip") return strip(machine, text, arguments, true, false);
  if (name == "rstrip") return strip(machine, text, arguments, false, true);
  if (name == "split" || name == "rsplit") return split(machine, text, arguments, name == "rsplit");
  if (name == "splitlines") return split_lines(machine, text);
  if (name == "startswith") return Value::boolean(affix(machine, text, arguments, true));
  if (name == "endswith") return Value::boolean(affix(machine, text, arguments, false));
  if (name == "upper") return machine.make_text(map_case(text, Case::kUpper));
  if (name == "lower") return machine.make_text(map_case(text, Case::kLower));
  if (name == "title") return machine.make_text(map_case(text, Case::kTitle));
  if (name == "capitalize") return machine.make_text(map_case(text, Case::kCapitalize));
  if (name == "isdigit" || name == "isdecimal" || name == "isnumeric") return Value::boolean(all_of(text, is_digit));
  if (name == "isalpha") return Value::boolean(all_of(text, is_letter));
  if (name == "isalnum")
    return Value::boolean(all_of(text, [](utf8proc_int32_t c) { return is_letter(c) || is_digit(c); }));
  if (name == "isspace") return Value::boolean(!text.empty() && python_strip(text.view()).empty());
  if (name == "replace") {
    const std::string_view from = text_argument(machine, arguments, 0, "old");
    text_argument(machine, arguments, 1, "new");
    if (machine.failed()) return {};
    const Text& to = arguments.get(1, "new")->as_text();
    const auto most = static_cast<int64_t>(from.empty() ? 0 : text.size() / from.size());
    if (!machine.charge(most * static_cast<int64_t>(to.size()))) return {};
    return machine.make_text(replace_all(text, from, to, integer_argument(machine, arguments, 2, "count", -1)));
  }
  if (name == "join") {
    const Value* list = arguments.get(0, "iterable");
    return list ? machine.apply("join", *list, Arguments{{Value::text(text)}, {}})
                : machine.fail("join() takes one argument");
  }
  if (name == "removeprefix" || name == "removesuffix") {
    const std::string_view part = text_argument(machine, arguments, 0, "prefix");
    const bool prefix = name == "removeprefix";
    if (machine.failed() || (prefix ? !text.view().starts_with(part) : !text.view().ends_with(part)))
      return Value::text(text);
    return machine.make_text(prefix ? text.sub(part.size()) : text.sub(0, text.size() - part.size()));
  }
  if (name == "find" || name == "rfind" || name == "index" || name == "count") {
    const std::string_view part = text_argument(machine, arguments, 0, "sub");
    if (machine.failed() || !machine.charge(static_cast<int64_t>(text.size()) / 8)) return {};
    if (name == "count") {
      int64_t n = 0;
      for (size_t at = text.view().find(part); at != std::string_view::npos && !part.empty();
           at = text.view().find(part, at + part.size()))
        ++n;
      return Value::integer(part.empty() ? static_cast<int64_t>(character_count(text.view())) + 1 : n);
    }
    const size_t at = name == "rfind" ? text.view().rfind(part) : text.view().find(part);
    if (at == std::string_view::npos) return name == "index" ? machine.fail("substring not found") : Value::integer(-1);
    return Value::integer(static_cast<int64_t>(character_count(text.view().substr(0, at))));
  }
  return machine.fail(fmt::format("'str object' has no attribute '{}'", name));
}

Value list_method(Machine& machine, const List& list, std::string_view name, const Arguments& arguments) {
  const Value* value = arguments.get(0, "value");
  if ((name == "index" || name == "count") && value) {
    if (!machine.charge(list.weight)) return {};
    const auto same = [&](const Value& other) { return equal(other, *value); };
    if (name == "count") return Value::integer(std::count_if(list.items.begin(), list.items.end(), same));
    const auto it = std::find_if(list.items.begin(), list.items.end(), same);
    return it == list.items.end() ? machine.fail("the value is not in the list")
                                  : Value::integer(it - list.items.begin());
  }
  // Published templates are rendered with values that cannot be changed.
  for (std::string_view change : {"append", "extend", "insert", "pop", "remove", "clear", "sort", "reverse"}) {
    if (name == change) return machine.fail(fmt::format("values cannot be changed: '{}' is not allowed", name));
  }
  return machine.fail(fmt::format("'list object' has no attribute '{}'", name));
}

Value dict_method(Machine& machine, const Value& object, std::string_view name, const Arguments& arguments) {
  const Dict& dict = object.as_dict();
  if (name == "get" && dict.role == Dict::Role::kPlain) {
    const Value* key = arguments.get(0, "key");
    if (!key) return machine.fail("get() takes a key");
    if (const Value* value = dict.find(*key)) return *value;
    const Value* otherwise = arguments.get(1, "default");
    return otherwise ? *otherwise : Value::none();
  }
  if ((name == "items" || name == "keys" || name == "values" || name == "copy") && dict.role == Dict::Role::kPlain) {
    if (name == "copy") return object;
    std::vector<Value> all;
    for (const auto& [key, value] : dict.items) {
      all.push_back(name == "items" ? machine.make_list({key, value}, true) : name == "keys" ? key : value);
    }
    return machine.failed() ? Value() : machine.make_list(std::move(all));
  }
  if (dict.role == Dict::Role::kLoop && name == "cycle") {
    if (arguments.positional.empty()) return machine.fail("no items for cycling given");
    return arguments.positional[static_cast<size_t>(dict.find("index0")->as_integer()) % arguments.positional.size()];
  }
  for (std::string_view change : {"update", "pop", "popitem", "setdefault", "clear"}) {
    if (name == change) return machine.fail(fmt::format("values cannot be changed: '{}' is not allowed", name));
  }
  const Value* value = dict.find(name);
  if (!value) return machine.fail(fmt::format("'dict object' has no attribute '{}'", name));
  return machine.fail(fmt::format("'{}' object is not callable", type_name(*value)));
}

Value range(Machine& machine, const Arguments& arguments) {
  int64_t bounds[3] = {0, 0, 1};
  const size_t n = arguments.positional.size();
  if (n < 1 || n > 3) return machine.fail("range() takes one to three arguments");
  for (size_t i = 0; i < n; ++i) {
    const Value& value = arguments.positional[i];
    if (!value.is_integer() && !value.is_boolean()) return machine.fail("range() takes integers");
    bounds[n == 1 ? 1 : i] = value.as_integer();
  }
  const auto [begin, end, step] = bounds;
  if (step == 0) return machine.fail("range() arg 3 must not be zero");
  constexpr int64_t kMaxRange = 100'000;  // as Jinja's sandbox
  std::vector<Value> items;
  for (int64_t i = begin; step > 0 ? i < end : i > end;) {
    if (static_cast<int64_t>(items.size()) >= kMaxRange) return machine.fail("range too big");
    items.push_back(Value::integer(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return machine.make_list(std::move(items));
}

// Today's date in the forms that templates ask for.
Value strftime_now(Machine& machine, const Arguments& arguments) {
  const std::string format(text_argument(machine, arguments, 0, "format"));
  if (machine.failed()) return {};
  for (size_t i = format.find('%'); i != std::string::npos; i = format.find('%', i + 2)) {
    const char c = i + 1 < format.size() ? format[i + 1] : '\0';
    if (c == '\0' || std::string_view("aAbBdejHIjmMpSyYZz%F").find(c) == std::string_view::npos)
      return machine.fail("strftime_now: unsupported format");
  }
  if (format.size() > 200) return machine.fail("strftime_now: the format is too long");
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char buffer[4096];
  const size_t n = std::strftime(buffer, sizeof buffer, format.c_str(), &local);
  return machine.make_text(Text(std::string(buffer, n), true));
}

}  // namespace

Value Machine::call_method(const Value& object, std::string_view name, const Arguments& arguments) {
  if (failed()) return {};
  if (object.is_undefined()) return fail(object.undefined_name());
  if (object.is_text())
    return charge(static_cast<int64_t>(object.as_text().size())) ? text_method(*this, object.as_text(), name, arguments)
                                                                 : Value();
  if (object.is_list()) return list_method(*this, object.as_list(), name, arguments);
  if (object.is_dict()) {
    const Value* member = object.as_dict().role == Dict::Role::kPlain ? nullptr : object.as_dict().find(name);
    if (member && member->is_function() && member->as_function().macro)
      return call_macro(*member->as_function().macro, arguments);
    return dict_method(*this, object, name, arguments);
  }
  return fail(fmt::format("'{}' object has no attribute '{}'", type_name(object), name));
}

Value Machine::call_builtin(std::string_view name, const Arguments& arguments) {
  if (name == "range") return range(*this, arguments);
  if (name == "strftime_now") return strftime_now(*this, arguments);
  if (name == "raise_exception") {
    const Value* message = arguments.get(0, "message");
    return fail(message ? to_text(*message).str() : "the template refuses the conversation");
  }
  auto dict = std::make_shared<Dict>();
  if (name == "namespace") dict->role = Dict::Role::kNamespace;
  if (!arguments.positional.empty()) {
    const Value& from = arguments.positional[0];
    if (!from.is_dict() || from.as_dict().role != Dict::Role::kPlain)
      return fail(fmt::format("{}() takes a dictionary", name));
    dict->items = from.as_dict().items;
    dict->depth = from.as_dict().depth;
    dict->weight = from.as_dict().weight;
  }
  for (const auto& [key, value] : arguments.named) {
    if (value.is_dict() && value.as_dict().role != Dict::Role::kPlain)
      return fail("a namespace cannot be put into a dictionary");
    dict->set(key, value);
  }
  if (dict->depth > kMaxValueDepth) return fail("values are nested too deeply");
  if (dict->weight > kMaxWeight || !charge(static_cast<int64_t>(dict->items.size()) * 128 + 64))
    return fail("the template makes too much data");
  return Value::dict(std::move(dict));
}

}  // namespace sonde::jinja
