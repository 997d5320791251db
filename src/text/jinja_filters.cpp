// Filters: value | NAME.
#include <fmt/format.h>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <list>
#include <map>

#include "text/jinja_machine.h"
#include "text/jinja_text.h"
#include "text/python_text.h"

namespace sonde::jinja {
namespace {

using Filter = Value (*)(Machine&, const Value&, const Arguments&);

bool flag(const Value* value, bool otherwise) { return value ? truthy(*value) : otherwise; }

int64_t whole(Machine& machine, const Value* value, int64_t otherwise) {
  if (!value || value->is_none()) return otherwise;
  if (value->is_integer() || value->is_boolean()) return value->as_integer();
  machine.fail("a filter's argument must be an integer");
  return otherwise;
}

// soft_str: texts as they are, all else as printed.
Text printed(Machine& machine, const Value& value) { return machine.walk(value) ? to_text(value) : Text(); }

// The value, or the attribute of it that the filter was asked for.
Value keyed(Machine& machine, const Value& value, const Value* attribute) {
  return attribute && !attribute->is_none() ? machine.path(value, *attribute) : value;
}

Value folded(const Value& value) {
  return value.is_text() ? Value::text(map_case(value.as_text(), Case::kLower)) : value;
}

Value trim(Machine& machine, const Value& value, const Arguments& arguments) {
  return machine.call_method(Value::text(printed(machine, value)), "strip", arguments);
}

Value length(Machine& machine, const Value& value, const Arguments&) {
  if (value.is_text()) return Value::integer(static_cast<int64_t>(character_count(value.as_text().view())));
  if (value.is_list()) return Value::integer(static_cast<int64_t>(value.as_list().items.size()));
  if (value.is_dict() && value.as_dict().role == Dict::Role::kPlain)
    return Value::integer(static_cast<int64_t>(value.as_dict().items.size()));
  if (value.is_undefined()) return Value::integer(0);
  return machine.fail(fmt::format("object of type '{}' has no len()", type_name(value)));
}

Value otherwise(Machine&, const Value& value, const Arguments& arguments) {
  const Value* given = arguments.get(0, "default_value");
  const bool use = value.is_undefined() || (flag(arguments.get(1, "boolean"), false) && !truthy(value));
  return !use ? value : given ? *given : Value::own("");
}

Value tojson(Machine& machine, const Value& value, const Arguments& arguments) {
  if (!machine.walk(value)) return {};
  bool own = true;
  const auto json = to_json(value, own);
  if (!json) return machine.fail(fmt::format("Object of type {} is not JSON serializable", type_name(value)));
  JsonStyle style;
  style.indent = static_cast<int>(std::clamp<int64_t>(whole(machine, arguments.get(1, "indent"), -1), -1, 64));
  style.ascii = flag(arguments.get(0, "ensure_ascii"), false);
  style.sorted = flag(arguments.get(3, "sort_keys"), false);
  if (const Value* separators = arguments.get(2, "separators");
      separators && separators->is_list() && separators->as_list().items.size() == 2) {
    style.comma = to_text(separators->as_list().items[0]).str();
    style.colon = to_text(separators->as_list().items[1]).str();
  }
  // Indentation can make much out of little.
  if (style.indent > 0 && !machine.charge(weight_of(value) * depth_of(value) * style.indent)) return {};
  return machine.make_text(Text(python_json(*json, style), own));
}

Value fromjson(Machine& machine, const Value& value, const Arguments&) {
  if (!value.is_text() || !machine.charge(static_cast<int64_t>(value.as_text().size()) * 32))
    return machine.fail("from_json takes a string");
  const auto json = nlohmann::ordered_json::parse(
      value.as_text().str(), [](int depth, auto, auto&) { return depth < kMaxValueDepth; }, false);
  if (json.is_discarded()) return machine.fail("the text is not JSON");
  return from_json(json, value.as_text().all_own());
}

Value join(Machine& machine, const Value& value, const Arguments& arguments) {
  const Value* between = arguments.get(0, "d");
  const Text mark = between ? printed(machine, *between) : Text();
  Text out;
  bool first = true;
  for (const Value& item : machine.iterate(value)) {
    if (!first) out.append(mark);
    first = false;
    out.append(printed(machine, keyed(machine, item, arguments.get(1, "attribute"))));
    if (!machine.charge(static_cast<int64_t>(mark.size()))) return {};
  }
  return machine.make_text(std::move(out));
}

Value first(Machine& machine, const Value& value, const Arguments&) {
  const std::vector<Value> items = machine.iterate(value);
  return items.empty() ? Value::undefined("No first item, sequence was empty.") : items.front();
}

Value last(Machine& machine, const Value& value, const Arguments&) {
  const std::vector<Value> items = machine.iterate(value);
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}

template <Case to>
Value with_case(Machine& machine, const Value& value, const Arguments&) {
  return machine.make_text(map_case(printed(machine, value), to));
}

Value replace(Machine& machine, const Value& value, const Arguments& arguments) {
  Arguments texts;
  for (int i = 0; i < 2; ++i) {
    const Value* part = arguments.get(i, i == 0 ? "old" : "new");
    if (!part) return machine.fail("replace takes two strings");
    texts.positional.push_back(Value::text(printed(machine, *part)));
  }
  if (const Value* count = arguments.get(2, "count")) texts.positional.push_back(*count);
  return machine.call_method(Value::text(printed(machine, value)), "replace", texts);
}

Value map(Machine& machine, const Value& value, const Arguments& arguments) {
  const Value* attribute = arguments.get(-1, "attribute");
  const Value* fallback = arguments.get(-1, "default");
  Arguments rest;
  std::string_view name;
  if (!attribute) {
    if (arguments.positional.empty() || !arguments.positional[0].is_text())
      return machine.fail("map requires a filter argument");
    name = arguments.positional[0].as_text().view();
    if (!has_filter(name)) return machine.fail(fmt::format("no filter named \"{}\"", name));
    rest.positional.assign(arguments.positional.begin() + 1, arguments.positional.end());
    rest.named = arguments.named;
  }
  std::vector<Value> out;
  for (const Value& item : machine.iterate(value)) {
    if (machine.failed()) return {};
    Value mapped = attribute ? machine.path(item, *attribute) : machine.apply(name, item, rest);
    if (attribute && fallback && mapped.is_undefined()) mapped = *fallback;
    out.push_back(std::move(mapped));
  }
  return machine.failed() ? Value() : machine.make_list(std::move(out));
}

Value choose(Machine& machine, const Value& value, const Arguments& arguments, bool by_attribute, bool keep) {
  const size_t skip = by_attribute ? 1 : 0;
  if (arguments.positional.size() < skip) return machine.fail("an attribute is missing");
  std::string_view test;
  Arguments rest;
  if (arguments.positional.size() > skip) {
    if (!arguments.positional[skip].is_text()) return machine.fail("the name of a test must be a string");
    test = arguments.positional[skip].as_text().view();
    if (!has_test(test)) return machine.fail(fmt::format("no test named \"{}\"", test));
    rest.positional.assign(arguments.positional.begin() + static_cast<ptrdiff_t>(skip) + 1, arguments.positional.end());
  }
  std::vector<Value> out;
  for (const Value& item : machine.iterate(value)) {
    const Value judged = by_attribute ? machine.path(item, arguments.positional[0]) : item;
    if (machine.failed()) return {};
    const bool holds = test.empty() ? truthy(judged) : machine.test(test, judged, rest);
    if (holds == keep) out.push_back(item);
  }
  return machine.failed() ? Value() : machine.make_list(std::move(out));
}

template <bool by_attribute, bool keep>
Value choose_by(Machine& machine, const Value& value, const Arguments& arguments) {
  return choose(machine, value, arguments, by_attribute, keep);
}

Value list(Machine& machine, const Value& value, const Arguments&) { return machine.make_list(machine.iterate(value)); }

Value string(Machine& machine, const Value& value, const Arguments&) {
  return machine.make_text(printed(machine, value));
}

Value integer(Machine& machine, const Value& value, const Arguments& arguments) {
  const Value* given = arguments.get(0, "default");
  const Value fallback = given ? *given : Value::integer(0);
  if (value.is_integer() || value.is_boolean()) return Value::integer(value.as_integer());
  double real = 0;
  if (value.is_real()) {
    real = value.as_real();
  } else if (value.is_text()) {
    const std::string_view text = python_strip(value.as_text().view());
    int64_t number = 0;
    auto result = std::from_chars(text.data(), text.data() + text.size(), number);
    if (result.ec == std::errc() && result.ptr == text.data() + text.size()) return Value::integer(number);
    result = std::from_chars(text.data(), text.data() + text.size(), real);
    if (result.ec != std::errc() || result.ptr != text.data() + text.size()) return fallback;
  } else {
    return fallback;
  }
  if (!(std::fabs(real) < 9e18)) return machine.fail("number too large");
  return Value::integer(static_cast<int64_t>(real));
}

Value real(Machine&, const Value& value, const Arguments& arguments) {
  const Value* given = arguments.get(0, "default");
  if (value.is_number()) return Value::real(value.as_real());
  if (value.is_text()) {
    const std::string_view text = python_strip(value.as_text().view());
    double number = 0;
    const auto result = std::from_chars(text.data(), text.data() + text.size(), number);
    if (result.ec == std::errc() && result.ptr == text.data() + text.size()) return Value::real(number);
  }
  return given ? *given : Value::real(0);
}

Value same(Machine&, const Value& value, const Arguments&) { return value; }

Value items(Machine& machine, const Value& value, const Arguments&) {
  if (value.is_undefined()) return machine.make_list({});
  if (!value.is_dict() || value.as_dict().role != Dict::Role::kPlain)
    return machine.fail("Can only get item pairs from a mapping.");
  return machine.call_method(value, "items", {});
}

// Keeps the order of equals. (std::stable_sort of libstdc++ 12 warns under clang.)
bool sort_by(Machine& machine, std::vector<std::pair<Value, Value>>& keyed_items, bool reverse) {
  std::list<std::pair<Value, Value>> sorted(keyed_items.begin(), keyed_items.end());
  sorted.sort([&](const auto& a, const auto& b) {
    if (!machine.charge(16)) return false;
    return (reverse ? machine.less(b.first, a.first) : machine.less(a.first, b.first)).value_or(false);
  });
  keyed_items.assign(sorted.begin(), sorted.end());
  return !machine.failed();
}

Value sort(Machine& machine, const Value& value, const Arguments& arguments) {
  std::vector<std::pair<Value, Value>> sorted;
  const bool exact = flag(arguments.get(1, "case_sensitive"), false);
  for (const Value& item : machine.iterate(value)) {
    const Value key = keyed(machine, item, arguments.get(2, "attribute"));
    sorted.emplace_back(exact ? key : folded(key), item);
  }
  if (!sort_by(machine, sorted, flag(arguments.get(0, "reverse"), false))) return {};
  std::vector<Value> out;
  for (auto& entry : sorted) out.push_back(std::move(entry.second));
  return machine.make_list(std::move(out));
}

Value dictsort(Machine& machine, const Value& value, const Arguments& arguments) {
  if (!value.is_dict()) return machine.fail("dictsort takes a dictionary");
  const bool exact = flag(arguments.get(0, "case_sensitive"), false);
  const Value* by = arguments.get(1, "by");
  const bool by_value = by && by->is_text() && by->as_text().view() == "value";
  std::vector<std::pair<Value, Value>> sorted;
  for (const auto& [key, item] : value.as_dict().items) {
    const Value& what = by_value ? item : key;
    sorted.emplace_back(exact ? what : folded(what), machine.make_list({key, item}, true));
  }
  if (!sort_by(machine, sorted, flag(arguments.get(2, "reverse"), false))) return {};
  std::vector<Value> out;
  for (auto& entry : sorted) out.push_back(std::move(entry.second));
  return machine.make_list(std::move(out));
}

Value unique(Machine& machine, const Value& value, const Arguments& arguments) {
  const bool exact = flag(arguments.get(0, "case_sensitive"), false);
  std::vector<Value> out, seen;
  for (const Value& item : machine.iterate(value)) {
    const Value plain = keyed(machine, item, arguments.get(1, "attribute"));
    Value key = exact ? plain : folded(plain);
    if (!machine.charge(static_cast<int64_t>(seen.size()) * 8 + weight_of(key))) return {};
    if (std::any_of(seen.begin(), seen.end(), [&](const Value& other) { return equal(other, key); })) continue;
    seen.push_back(std::move(key));
    out.push_back(item);
  }
  return machine.make_list(std::move(out));
}

Value reverse(Machine& machine, const Value& value, const Arguments&) {
  std::vector<Value> items_of = machine.iterate(value);
  std::reverse(items_of.begin(), items_of.end());
  if (!value.is_text()) return machine.make_list(std::move(items_of));
  Text text;
  for (const Value& item : items_of) text.append(item.as_text());
  return machine.make_text(std::move(text));
}

Value indent(Machine& machine, const Value& value, const Arguments& arguments) {
  const Text text = printed(machine, value);
  const Value* width = arguments.get(0, "width");
  Text margin =
      width && width->is_text()
          ? width->as_text()
          : Text(std::string(static_cast<size_t>(std::clamp<int64_t>(whole(machine, width, 4), 0, 200)), ' '), true);
  const bool at_first = flag(arguments.get(1, "first"), false), at_blank = flag(arguments.get(2, "blank"), false);
  Text out;
  size_t at = 0;
  for (bool first_line = true; !machine.failed(); first_line = false) {
    const size_t end = std::min(text.view().find('\n', at), text.size());
    if (first_line ? at_first : at_blank || end > at) out.append(margin);
    if (!machine.charge(static_cast<int64_t>(margin.size()))) return {};
    out.append(text.sub(at, end - at + (end < text.size() ? 1 : 0)));
    if (end == text.size()) break;
    at = end + 1;
  }
  return machine.make_text(std::move(out));
}

Value absolute(Machine& machine, const Value& value, const Arguments&) {
  if (value.is_real()) return Value::real(std::fabs(value.as_real()));
  if (!value.is_number() || value.as_integer() == INT64_MIN) return machine.fail("bad operand type for abs()");
  return Value::integer(std::abs(value.as_integer()));
}

Value rounded(Machine& machine, const Value& value, const Arguments& arguments) {
  if (!value.is_number()) return machine.fail("round takes a number");
  const double scale = std::pow(
      10.0, static_cast<double>(std::clamp<int64_t>(whole(machine, arguments.get(0, "precision"), 0), -20, 20)));
  const Value* method = arguments.get(1, "method");
  const std::string_view how = method && method->is_text() ? method->as_text().view() : std::string_view("common");
  const double scaled = value.as_real() * scale;
  return Value::real((how == "ceil"    ? std::ceil(scaled)
                      : how == "floor" ? std::floor(scaled)
                                       : std::nearbyint(scaled)) /
                     scale);
}

Value sum(Machine& machine, const Value& value, const Arguments& arguments) {
  const Value* start = arguments.get(1, "start");
  Value total = start ? *start : Value::integer(0);
  for (const Value& item : machine.iterate(value))
    total = machine.add(total, keyed(machine, item, arguments.get(0, "attribute")));
  return total;
}

template <bool largest>
Value extreme(Machine& machine, const Value& value, const Arguments& arguments) {
  std::optional<std::pair<Value, Value>> best;
  for (const Value& item : machine.iterate(value)) {
    Value key = folded(keyed(machine, item, arguments.get(1, "attribute")));
    if (!best || (largest ? machine.less(best->first, key) : machine.less(key, best->first)).value_or(false))
      best.emplace(std::move(key), item);
  }
  return best ? best->second : Value::undefined("No aggregated item, sequence was empty.");
}

Value attr(Machine& machine, const Value& value, const Arguments& arguments) {
  const Value* name = arguments.get(0, "name");
  return name ? machine.item(value, *name) : machine.fail("attr takes a name");
}

const std::map<std::string_view, Filter>& table() {
  static const std::map<std::string_view, Filter> filters = {
      {"abs", absolute},
      {"attr", attr},
      {"capitalize", with_case<Case::kCapitalize>},
      {"count", length},
      {"d", otherwise},
      {"default", otherwise},
      {"dictsort", dictsort},
      {"first", first},
      {"float", real},
      {"from_json", fromjson},
      {"indent", indent},
      {"int", integer},
      {"items", items},
      {"join", join},
      {"last", last},
      {"length", length},
      {"list", list},
      {"lower", with_case<Case::kLower>},
      {"map", map},
      {"max", extreme<true>},
      {"min", extreme<false>},
      {"reject", choose_by<false, false>},
      {"rejectattr", choose_by<true, false>},
      {"replace", replace},
      {"reverse", reverse},
      {"round", rounded},
      {"safe", same},
      {"select", choose_by<false, true>},
      {"selectattr", choose_by<true, true>},
      {"sort", sort},
      {"string", string},
      {"sum", sum},
      {"title", with_case<Case::kTitle>},
      {"tojson", tojson},
      {"trim", trim},
      {"unique", unique},
      {"upper", with_case<Case::kUpper>},
  };
  return filters;
}

}  // namespace

bool has_filter(std::string_view name) { return table().contains(name); }

Value Machine::apply(std::string_view filter, const Value& value, const Arguments& arguments) {
  if (failed()) return {};
  const auto it = table().find(filter);
  if (it == table().end()) return fail(fmt::format("no filter named \"{}\"", filter));
  if (++depth_ > kMaxDepth || ++steps_ > limits_.steps) fail("the template takes too many steps");
  Value result = failed() ? Value() : it->second(*this, value, arguments);
  --depth_;
  return failed() ? Value() : result;
}

}  // namespace sonde::jinja
