// Expressions.
#include <fmt/format.h>
#include <algorithm>
#include <cmath>

#include "text/jinja_machine.h"

namespace sonde::jinja {

using Kind = Node::Kind;

Value Machine::eval(const Node& node) {
  if (++depth_ > kMaxDepth) fail("evaluation is nested too deeply");
  if (++steps_ > limits_.steps) fail("the template takes too many steps");
  Value value = failed() ? Value() : eval_node(node);
  --depth_;
  return value;
}

Value Machine::eval_node(const Node& node) {
  line_ = node.line;
  switch (node.kind) {
    case Kind::kConstant:
      return node.value;
    case Kind::kBodyText:
      return bodies_.empty() ? Value() : make_text(bodies_.back());
    case Kind::kName:
      return look_up(node.name);
    case Kind::kList:
    case Kind::kTuple: {
      std::vector<Value> items;
      for (const NodePtr& kid : node.kids) items.push_back(eval(*kid));
      return failed() ? Value() : make_list(std::move(items), node.kind == Kind::kTuple);
    }
    case Kind::kDict:
      return eval_dict(node);
    case Kind::kAttribute:
      return attribute(eval(*node.kids[0]), node.name);
    case Kind::kItem: {
      const Value object = eval(*node.kids[0]);
      return item(object, eval(*node.kids[1]));
    }
    case Kind::kSlice:
      return eval_slice(node);
    case Kind::kCall:
      return eval_call(node);
    case Kind::kApply: {
      const Value value = eval(*node.kids[0]);
      const Arguments arguments = eval_arguments(node);
      line_ = node.line;
      return failed() ? Value() : apply(node.name, value, arguments);
    }
    case Kind::kTest: {
      const Value value = eval(*node.kids[0]);
      const Arguments arguments = eval_arguments(node);
      return failed() ? Value() : Value::boolean(test(node.name, value, arguments));
    }
    case Kind::kNot:
      return Value::boolean(!truthy(eval(*node.kids[0])));
    case Kind::kNegative:
    case Kind::kPositive: {
      const Value value = eval(*node.kids[0]);
      if (!value.is_number())
        return fail(fmt::format("bad operand type for unary {}: '{}'", node.kind == Kind::kNegative ? '-' : '+',
                                type_name(value)));
      return node.kind == Kind::kPositive ? value : arithmetic("-", Value::integer(0), value);
    }
    case Kind::kAnd: {
      Value left = eval(*node.kids[0]);
      return truthy(left) ? eval(*node.kids[1]) : left;
    }
    case Kind::kOr: {
      Value left = eval(*node.kids[0]);
      return truthy(left) ? left : eval(*node.kids[1]);
    }
    case Kind::kBinary:
      return eval_binary(node);
    case Kind::kCompare:
      return eval_compare(node);
    case Kind::kChoice:
      if (truthy(eval(*node.kids[1]))) return eval(*node.kids[0]);
      return node.kids[2]
                 ? eval(*node.kids[2])
                 : Value::undefined("the inline if-expression evaluated to false and no else section was defined");
    default:
      return fail("a statement where an expression should be");
  }
}

Value Machine::eval_dict(const Node& node) {
  auto dict = std::make_shared<Dict>();
  for (size_t i = 0; i + 1 < node.kids.size(); i += 2) {
    Value key = eval(*node.kids[i]);
    Value value = eval(*node.kids[i + 1]);
    if (failed()) return {};
    if (key.is_list() || key.is_dict()) return fail(fmt::format("unhashable type: '{}'", type_name(key)));
    if (value.is_dict() && value.as_dict().role != Dict::Role::kPlain)
      return fail("a namespace cannot be put into a dictionary");
    dict->set(std::move(key), std::move(value));
  }
  if (dict->depth > kMaxValueDepth) return fail("values are nested too deeply");
  if (dict->weight > kMaxWeight) return fail("the template makes too much data");
  if (!charge(static_cast<int64_t>(dict->items.size()) * 128 + 64)) return {};
  return Value::dict(std::move(dict));
}

Arguments Machine::eval_arguments(const Node& node) {
  Arguments arguments;
  for (size_t i = 1; i < node.kids.size(); ++i) arguments.positional.push_back(eval(*node.kids[i]));
  for (const auto& [name, kid] : node.named) arguments.named.emplace_back(name, eval(*kid));
  return arguments;
}

Value Machine::eval_call(const Node& node) {
  const Node& callee = *node.kids[0];
  if (callee.kind == Kind::kAttribute) {
    const Value object = eval(*callee.kids[0]);
    const Arguments arguments = eval_arguments(node);
    line_ = node.line;
    return failed() ? Value() : call_method(object, callee.name, arguments);
  }
  const Value function = eval(callee);
  const Arguments arguments = eval_arguments(node);
  line_ = node.line;
  if (failed()) return {};
  if (function.is_undefined()) return fail(function.undefined_name());
  if (!function.is_function()) return fail(fmt::format("'{}' object is not callable", type_name(function)));
  if (function.as_function().macro) return call_macro(*function.as_function().macro, arguments);
  return call_builtin(function.as_function().builtin, arguments);
}

Value Machine::attribute(const Value& object, std::string_view name) {
  if (failed()) return {};
  if (object.is_undefined())
    return fail(object.undefined_name().empty() ? "value is undefined" : object.undefined_name());
  if (object.is_dict()) {
    if (const Value* value = object.as_dict().find(name)) return *value;
    return Value::undefined(fmt::format("'dict object' has no attribute '{}'", name));
  }
  return Value::undefined(fmt::format("'{} object' has no attribute '{}'", type_name(object), name));
}

Value Machine::item(const Value& object, const Value& key) {
  if (failed()) return {};
  if (object.is_undefined() || object.is_dict()) {
    if (key.is_text() || object.is_undefined())
      return attribute(object, key.is_text() ? key.as_text().view() : std::string_view());
    const Value* value = object.as_dict().find(key);
    return value ? *value : Value::undefined(fmt::format("dict object has no element {}", to_text(key).str()));
  }
  if ((object.is_list() || object.is_text()) && (key.is_integer() || key.is_boolean())) {
    const std::vector<size_t> starts = object.is_text() ? characters(object.as_text().view()) : std::vector<size_t>();
    const auto size = static_cast<int64_t>(object.is_text() ? starts.size() - 1 : object.as_list().items.size());
    const int64_t i = key.as_integer() < 0 ? key.as_integer() + size : key.as_integer();
    if (i < 0 || i >= size)
      return Value::undefined(fmt::format("{} object has no element {}", type_name(object), key.as_integer()));
    const auto at = static_cast<size_t>(i);
    if (object.is_list()) return object.as_list().items[at];
    charge(size);
    return make_text(object.as_text().sub(starts[at], starts[at + 1] - starts[at]));
  }
  return attribute(object, key.is_text() ? key.as_text().view() : std::string_view("?"));
}

Value Machine::path(const Value& object, const Value& name) {
  if (!name.is_text()) return item(object, name);
  Value value = object;
  std::string_view rest = name.as_text().view();
  while (!failed()) {
    const size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    const bool number = !part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == part.npos;
    value = number ? item(value, Value::integer(std::stoll(std::string(part)))) : attribute(value, part);
    if (dot == rest.npos) break;
    rest.remove_prefix(dot + 1);
  }
  return value;
}

std::vector<Value> Machine::iterate(const Value& value) {
  std::vector<Value> items;
  if (failed() || value.is_undefined()) return items;
  if (value.is_list()) {
    charge(static_cast<int64_t>(value.as_list().items.size()) * 32);
    return value.as_list().items;
  }
  if (value.is_dict() && value.as_dict().role == Dict::Role::kPlain) {
    charge(static_cast<int64_t>(value.as_dict().items.size()) * 32);
    for (const auto& [key, ignored] : value.as_dict().items) items.push_back(key);
    return items;
  }
  if (value.is_text()) {
    if (!charge(static_cast<int64_t>(value.as_text().size()) * 64)) return items;
    const std::vector<size_t> starts = characters(value.as_text().view());
    for (size_t i = 0; i + 1 < starts.size(); ++i)
      items.push_back(Value::text(value.as_text().sub(starts[i], starts[i + 1] - starts[i])));
    return items;
  }
  fail(fmt::format("'{}' object is not iterable", type_name(value)));
  return items;
}

Value Machine::eval_slice(const Node& node) {
  const Value object = eval(*node.kids[0]);
  std::optional<int64_t> bounds[3];
  for (size_t i = 0; i < 3; ++i) {
    if (!node.kids[i + 1]) continue;
    const Value value = eval(*node.kids[i + 1]);
    if (failed()) return {};
    if (value.is_none()) continue;
    if (!value.is_integer() && !value.is_boolean()) return fail("slice indices must be integers or None");
    bounds[i] = value.as_integer();
  }
  if (failed()) return {};
  if (object.is_undefined()) return fail(object.undefined_name());
  if (!object.is_list() && !object.is_text())
    return fail(fmt::format("'{}' object is not subscriptable", type_name(object)));
  const std::vector<size_t> starts = object.is_text() ? characters(object.as_text().view()) : std::vector<size_t>();
  const auto size = static_cast<int64_t>(object.is_text() ? starts.size() - 1 : object.as_list().items.size());
  charge(size * 8);
  const int64_t step = bounds[2].value_or(1);
  if (step == 0) return fail("slice step cannot be zero");
  const auto clamp = [&](int64_t at) {
    if (at < 0) at = std::max<int64_t>(at + size, step < 0 ? -1 : 0);
    return std::min(at, step < 0 ? size - 1 : size);
  };
  const int64_t begin = bounds[0] ? clamp(*bounds[0]) : step < 0 ? size - 1 : 0;
  const int64_t end = bounds[1] ? clamp(*bounds[1]) : step < 0 ? -1 : size;
  if (object.is_text() && step == 1) {
    if (begin >= end) return Value::own("");
    const size_t from = starts[static_cast<size_t>(begin)];
    return make_text(object.as_text().sub(from, starts[static_cast<size_t>(end)] - from));
  }
  std::vector<Value> items;
  Text text;
  for (int64_t i = begin; step < 0 ? i > end : i < end;) {
    const auto at = static_cast<size_t>(i);
    if (object.is_list()) {
      items.push_back(object.as_list().items[at]);
    } else {
      text.append(object.as_text().sub(starts[at], starts[at + 1] - starts[at]));
    }
    if (step > 0 ? step >= size - i : -step > i) break;  // the next index is outside
    i += step;
  }
  return object.is_list() ? make_list(std::move(items), object.as_list().tuple) : make_text(std::move(text));
}

Value Machine::add(const Value& a, const Value& b) {
  if (a.is_text() && b.is_text()) {
    if (!charge(static_cast<int64_t>(a.as_text().size() + b.as_text().size()))) return {};
    Text text = a.as_text();
    text.append(b.as_text());
    return make_text(std::move(text));
  }
  if (a.is_list() && b.is_list() && a.as_list().tuple == b.as_list().tuple) {
    std::vector<Value> items = iterate(a);
    const std::vector<Value> more = iterate(b);
    items.insert(items.end(), more.begin(), more.end());
    return failed() ? Value() : make_list(std::move(items), a.as_list().tuple);
  }
  if (a.is_text() || a.is_list()) {
    const std::string_view type = type_name(a);
    return fail(fmt::format("can only concatenate {} (not \"{}\") to {}", type, type_name(b), type));
  }
  return arithmetic("+", a, b);
}

Value Machine::eval_binary(const Node& node) {
  const Value a = eval(*node.kids[0]), b = eval(*node.kids[1]);
  line_ = node.line;
  if (failed()) return {};
  const std::string_view name = node.name;
  if (name == "~") {
    if (!walk(a) || !walk(b)) return {};
    Text text = to_text(a);
    text.append(to_text(b));
    return make_text(std::move(text));
  }
  for (const Value* side : {&a, &b}) {
    if (side->is_undefined()) return fail(side->undefined_name());
  }
  if (name == "+") return add(a, b);
  const bool repeat =
      name == "*" && (a.is_text() || a.is_list() ? b.is_integer() || b.is_boolean()
                                                 : (b.is_text() || b.is_list()) && (a.is_integer() || a.is_boolean()));
  if (!repeat) return arithmetic(name, a, b);
  const Value& what = a.is_text() || a.is_list() ? a : b;
  const int64_t times = std::max<int64_t>((&what == &a ? b : a).as_integer(), 0);
  const auto size = static_cast<int64_t>(what.is_text() ? what.as_text().size() : what.as_list().items.size() * 64);
  if (size > 0 && times > limits_.bytes / size) return fail("the template makes too much data");
  if (!charge(size * times)) return {};
  Text text;
  std::vector<Value> items;
  for (int64_t i = 0; i < times && size > 0; ++i) {
    if (what.is_text()) {
      text.append(what.as_text());
    } else {
      items.insert(items.end(), what.as_list().items.begin(), what.as_list().items.end());
    }
  }
  return what.is_text() ? make_text(std::move(text)) : make_list(std::move(items), what.as_list().tuple);
}

Value Machine::arithmetic(std::string_view name, const Value& a, const Value& b) {
  if (!a.is_number() || !b.is_number()) {
    return fail(fmt::format("unsupported operand type(s) for {}: '{}' and '{}'", name, type_name(a), type_name(b)));
  }
  const bool divides = name == "/" || name == "//" || name == "%";
  if (divides && b.as_real() == 0) return fail("division by zero");
  if (a.is_real() || b.is_real() || name == "/") {
    const double x = a.as_real(), y = b.as_real();
    if (name == "+") return Value::real(x + y);
    if (name == "-") return Value::real(x - y);
    if (name == "*") return Value::real(x * y);
    if (name == "/") return Value::real(x / y);
    if (name == "//") return Value::real(std::floor(x / y));
    if (name == "**") return Value::real(std::pow(x, y));
    const double rest = std::fmod(x, y);
    return Value::real(rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest);
  }
  const int64_t x = a.as_integer(), y = b.as_integer();
  int64_t result = 0;
  bool overflow = false;
  if (name == "+") {
    overflow = __builtin_add_overflow(x, y, &result);
  } else if (name == "-") {
    overflow = __builtin_sub_overflow(x, y, &result);
  } else if (name == "*") {
    overflow = __builtin_mul_overflow(x, y, &result);
  } else if (name == "**") {
    if (y < 0)
      return x == 0 ? fail("division by zero") : Value::real(std::pow(static_cast<double>(x), static_cast<double>(y)));
    result = 1;
    if (x == 0 || x == 1 || x == -1) {
      result = y == 0 ? 1 : x == -1 && y % 2 == 0 ? 1 : x;
    } else {
      for (int64_t i = 0; i < y && !overflow; ++i) overflow = __builtin_mul_overflow(result, x, &result);
    }
  } else if (y == -1) {
    overflow = name == "//" && __builtin_sub_overflow(int64_t{0}, x, &result);
  } else {
    const int64_t rest = x % y;
    const bool adjust = rest != 0 && (rest < 0) != (y < 0);
    result = name == "//" ? x / y - (adjust ? 1 : 0) : adjust ? rest + y : rest;
  }
  return overflow ? fail("number too large") : Value::integer(result);
}

std::optional<bool> Machine::less(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    return a.is_real() || b.is_real() ? a.as_real() < b.as_real() : a.as_integer() < b.as_integer();
  }
  if (a.is_text() && b.is_text()) return a.as_text().str() < b.as_text().str();
  if (a.is_list() && b.is_list()) {
    const auto &x = a.as_list().items, &y = b.as_list().items;
    for (size_t i = 0; i < x.size() && i < y.size(); ++i) {
      if (!equal(x[i], y[i])) return less(x[i], y[i]);
    }
    return x.size() < y.size();
  }
  if (a.is_undefined()) {
    fail(a.undefined_name());
  } else {
    fail(fmt::format("'<' not supported between instances of '{}' and '{}'", type_name(a), type_name(b)));
  }
  return std::nullopt;
}

bool Machine::contains(const Value& container, const Value& value) {
  if (container.is_undefined()) return false;
  if (container.is_text()) {
    if (!value.is_text()) {
      fail(fmt::format("'in <string>' requires string as left operand, not {}", type_name(value)));
      return false;
    }
    charge(static_cast<int64_t>(container.as_text().size()) / 16);
    return container.as_text().str().find(value.as_text().str()) != std::string::npos;
  }
  if (container.is_list()) {
    const auto& items = container.as_list().items;
    if (!charge(weight_of(container))) return false;
    return std::any_of(items.begin(), items.end(), [&](const Value& other) { return equal(other, value); });
  }
  if (container.is_dict() && container.as_dict().role == Dict::Role::kPlain)
    return container.as_dict().find(value) != nullptr;
  fail(fmt::format("argument of type '{}' is not iterable", type_name(container)));
  return false;
}

Value Machine::eval_compare(const Node& node) {
  Value left = eval(*node.kids[0]);
  for (size_t i = 0; i < node.names.size(); ++i) {
    Value right = eval(*node.kids[i + 1]);
    line_ = node.line;
    if (failed() || !charge(std::min(weight_of(left), weight_of(right)) * 2)) return {};
    const std::string& name = node.names[i];
    bool holds = false;
    if (name == "==" || name == "!=") {
      holds = equal(left, right) == (name == "==");
    } else if (name == "in" || name == "not in") {
      holds = contains(right, left) == (name == "in");
    } else {
      const bool swap = name == ">" || name == "<=";
      const auto smaller = swap ? less(right, left) : less(left, right);
      holds = smaller.value_or(false) == (name == "<" || name == ">");
    }
    if (failed()) return {};
    if (!holds) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

}  // namespace sonde::jinja
