// Tests: value is NAME.
#include <fmt/format.h>
#include <algorithm>
#include <array>

#include "text/jinja_machine.h"
#include "text/jinja_text.h"

namespace sonde::jinja {
namespace {

constexpr std::array<std::string_view, 38> kTests = {
    "defined",     "undefined", "none",    "string",   "number",   "integer",  "float", "boolean",
    "true",        "false",     "mapping", "sequence", "iterable", "callable", "odd",   "even",
    "divisibleby", "equalto",   "eq",      "==",       "ne",       "!=",       "in",    "gt",
    "greaterthan", ">",         "ge",      ">=",       "lt",       "lessthan", "<",     "le",
    "<=",          "sameas",    "upper",   "lower",    "filter",   "test"};

}  // namespace

bool has_test(std::string_view name) { return std::find(kTests.begin(), kTests.end(), name) != kTests.end(); }

bool Machine::test(std::string_view name, const Value& value, const Arguments& arguments) {
  if (name == "defined") return !value.is_undefined();
  if (name == "undefined") return value.is_undefined();
  if (name == "none") return value.is_none();
  if (name == "string") return value.is_text();
  if (name == "number") return value.is_number();
  if (name == "integer") return value.is_integer();
  if (name == "float") return value.is_real();
  if (name == "boolean") return value.is_boolean();
  if (name == "true" || name == "false") return value.is_boolean() && value.as_boolean() == (name == "true");
  const bool plain_dict = value.is_dict() && value.as_dict().role == Dict::Role::kPlain;
  if (name == "mapping") return plain_dict;
  if (name == "sequence" || name == "iterable")
    return value.is_text() || value.is_list() || plain_dict || value.is_undefined();
  if (name == "callable") return value.is_function();
  if (name == "upper" || name == "lower") {
    const Text text = to_text(value);
    return !text.empty() && map_case(text, name == "upper" ? Case::kUpper : Case::kLower).str() == text.str();
  }
  if (name == "filter" || name == "test")
    return value.is_text() && (name == "filter" ? has_filter : has_test)(value.as_text().view());
  const auto integer = [&](const Value* number) -> int64_t {
    if (number && (number->is_integer() || number->is_boolean())) return number->as_integer();
    fail(fmt::format("test \"{}\" takes integers", name));
    return 1;
  };
  if (name == "odd") return integer(&value) % 2 != 0;
  if (name == "even") return integer(&value) % 2 == 0;
  const Value* other = arguments.get(0, "other");
  if (name == "divisibleby") {
    const int64_t by = integer(other), number = integer(&value);
    if (by == 0) fail("division by zero");
    return !failed() && (by == -1 || number % by == 0);
  }
  if (!other) {
    fail(fmt::format("test \"{}\" takes an argument", name));
    return false;
  }
  if (!walk(value)) return false;
  if (name == "in") return contains(*other, value);
  if (name == "equalto" || name == "eq" || name == "==") return equal(value, *other);
  if (name == "ne" || name == "!=") return !equal(value, *other);
  if (name == "sameas") return type_name(value) == type_name(*other) && equal(value, *other);
  if (name == "gt" || name == "greaterthan" || name == ">") return less(*other, value).value_or(false);
  if (name == "lt" || name == "lessthan" || name == "<") return less(value, *other).value_or(false);
  if (name == "ge" || name == ">=") return !less(value, *other).value_or(true);
  if (name == "le" || name == "<=") return !less(*other, value).value_or(true);
  fail(fmt::format("no test named \"{}\"", name));
  return false;
}

}  // namespace sonde::jinja
