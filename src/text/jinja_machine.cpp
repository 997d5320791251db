#include "text/jinja_machine.h"

#include <fmt/format.h>
#include <algorithm>

#include "text/jinja_lexer.h"

namespace sonde::jinja {

// Counts nested evaluations while it lives.
struct Machine::Deeper {
  explicit Deeper(Machine& machine) : machine_(machine) {
    if (++machine_.depth_ > kMaxDepth) machine_.fail("evaluation is nested too deeply");
  }
  ~Deeper() { --machine_.depth_; }
  Machine& machine_;
};

const Value* Arguments::get(int i, std::string_view name) const {
  if (i >= 0 && static_cast<size_t>(i) < positional.size()) return &positional[static_cast<size_t>(i)];
  for (const auto& [key, value] : named) {
    if (key == name) return &value;
  }
  return nullptr;
}

std::vector<size_t> characters(std::string_view text) {
  std::vector<size_t> starts;
  starts.reserve(text.size() + 1);
  for (size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80) starts.push_back(i);
  }
  starts.push_back(text.size());
  if (!text.empty() && starts.front() != 0) starts.front() = 0;  // broken UTF-8
  return starts;
}

size_t character_count(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

Value Machine::fail(std::string what) {
  if (!error_) error_ = template_error(line_, std::move(what));
  return {};
}

bool Machine::charge(int64_t bytes) {
  bytes_ += bytes;
  if (bytes_ > limits_.bytes) fail("the template makes too much data");
  return !failed();
}

Value Machine::make_text(Text text) {
  if (!charge(static_cast<int64_t>(text.size()) + 32)) return {};
  return Value::text(std::move(text));
}

Value Machine::make_list(std::vector<Value> items, bool tuple) {
  auto list = std::make_shared<List>();
  for (const Value& value : items) {
    if (value.is_dict() && value.as_dict().role != Dict::Role::kPlain)
      return fail("a namespace cannot be put into a list");
    list->depth = std::max(list->depth, 1 + depth_of(value));
    list->weight += weight_of(value);
    if (list->weight > kMaxWeight) return fail("the template makes too much data");
  }
  if (list->depth > kMaxValueDepth) return fail("values are nested too deeply");
  if (!charge(static_cast<int64_t>(items.size()) * 64 + 64)) return {};
  list->items = std::move(items);
  list->tuple = tuple;
  return Value::list(std::move(list));
}

void Machine::set_global(std::string name, Value value) { scopes_[0].emplace_back(std::move(name), std::move(value)); }

Result<Text> Machine::run(const Nodes& nodes) {
  Text text = capture(nodes);
  if (error_) return std::move(*error_);
  return text;
}

Text Machine::capture(const Nodes& nodes) {
  Text text;
  Text* outer = std::exchange(out_, &text);
  run_all(nodes);
  out_ = outer;
  return text;
}

void Machine::write(const Text& text) {
  if (!charge(static_cast<int64_t>(text.size()))) return;
  if (static_cast<int64_t>(out_->size() + text.size()) > limits_.output) {
    fail(fmt::format("the prompt is longer than {} bytes", limits_.output));
    return;
  }
  out_->append(text);
}

void Machine::assign(std::string_view name, Value value) {
  for (auto& [key, old] : scopes_.back()) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  scopes_.back().emplace_back(std::string(name), std::move(value));
}

void Machine::bind(const std::vector<std::string>& names, Value value) {
  if (names.size() == 1) return assign(names[0], std::move(value));
  const std::vector<Value> parts = iterate(value);
  if (failed()) return;
  if (parts.size() != names.size()) {
    fail(fmt::format("expected {} values to unpack, found {}", names.size(), parts.size()));
    return;
  }
  for (size_t i = 0; i < names.size(); ++i) assign(names[i], parts[i]);
}

Value Machine::look_up(const std::string& name) {
  const auto in = [&](const Scope& scope) -> const Value* {
    for (const auto& [key, value] : scope) {
      if (key == name) return &value;
    }
    return nullptr;
  };
  for (size_t i = scopes_.size(); i-- > floor_;) {
    if (const Value* value = in(scopes_[i])) return *value;
  }
  if (const Value* value = in(scopes_[0])) return *value;
  for (std::string_view builtin : {"namespace", "raise_exception", "range", "dict", "strftime_now"}) {
    if (name == builtin) return Value::function({nullptr, builtin});
  }
  return Value::undefined(fmt::format("'{}' is undefined", name));
}

Machine::Flow Machine::run_all(const Nodes& nodes) {
  for (const NodePtr& node : nodes) {
    if (failed()) return Flow::kBreak;
    const Flow flow = run_one(*node);
    if (flow != Flow::kOn) return flow;
  }
  return Flow::kOn;
}

Machine::Flow Machine::run_one(const Node& node) {
  const Deeper deeper(*this);
  if (++steps_ > limits_.steps) fail("the template takes too many steps");
  if (failed()) return Flow::kBreak;
  line_ = node.line;
  using Kind = Node::Kind;
  switch (node.kind) {
    case Kind::kData:
      write(node.value.as_text());
      break;
    case Kind::kOutput: {
      const Value value = eval(*node.kids[0]);
      if (!failed() && walk(value)) write(to_text(value));
      break;
    }
    case Kind::kIf:
      return run_all(truthy(eval(*node.kids[0])) ? node.body : node.other);
    case Kind::kFor:
      return run_for(node);
    case Kind::kSet:
      run_set(node);
      break;
    case Kind::kSetBlock:
    case Kind::kFilter: {
      scopes_.emplace_back();
      Text body = capture(node.body);
      scopes_.pop_back();
      bodies_.push_back(std::move(body));
      Value value = eval(*node.kids[0]);
      bodies_.pop_back();
      if (node.kind == Kind::kSetBlock) {
        assign(node.names[0], std::move(value));
      } else if (!failed() && walk(value)) {
        write(to_text(value));
      }
      break;
    }
    case Kind::kMacro:
      assign(node.name, Value::function({&node, {}}));
      break;
    case Kind::kWith: {
      std::vector<Value> values;
      for (const NodePtr& kid : node.kids) values.push_back(eval(*kid));
      scopes_.emplace_back();
      for (size_t i = 0; i < values.size(); ++i) assign(node.names[i], std::move(values[i]));
      const Flow flow = run_all(node.body);
      scopes_.pop_back();
      return flow;
    }
    case Kind::kScope:
      return run_all(node.body);
    case Kind::kBreak:
      return Flow::kBreak;
    case Kind::kContinue:
      return Flow::kContinue;
    default:
      fail("an expression where a statement should be");
  }
  return Flow::kOn;
}

void Machine::run_set(const Node& node) {
  Value value = eval(*node.kids[0]);
  if (failed()) return;
  if (node.kids.size() == 1) return bind(node.names, std::move(value));
  const Value target = eval(*node.kids[1]->kids[0]);
  if (failed()) return;
  if (!target.is_dict() || target.as_dict().role != Dict::Role::kNamespace) {
    fail("cannot assign attribute on non-namespace object");
    return;
  }
  if (value.is_dict() && value.as_dict().role != Dict::Role::kPlain) {
    fail("a namespace cannot be put into a namespace");
    return;
  }
  target.as_dict().set(node.kids[1]->name, std::move(value));
}

Machine::Flow Machine::run_for(const Node& node) {
  std::vector<Value> items = iterate(eval(*node.kids[0]));
  if (failed()) return Flow::kBreak;
  if (node.kids[1]) {
    std::vector<Value> kept;
    for (Value& value : items) {
      if (++steps_ > limits_.steps) fail("the template takes too many steps");
      scopes_.emplace_back();
      bind(node.names, value);
      const bool keep = !failed() && truthy(eval(*node.kids[1]));
      scopes_.pop_back();
      if (failed()) return Flow::kBreak;
      if (keep) kept.push_back(std::move(value));
    }
    items = std::move(kept);
  }
  if (items.empty()) return run_all(node.other);
  const auto count = static_cast<int64_t>(items.size());
  for (int64_t i = 0; i < count && !failed(); ++i) {
    if (++steps_ > limits_.steps) fail("the template takes too many steps");
    const auto at = static_cast<size_t>(i);
    auto loop = std::make_shared<Dict>();
    loop->role = Dict::Role::kLoop;
    loop->set("index", Value::integer(i + 1));
    loop->set("index0", Value::integer(i));
    loop->set("revindex", Value::integer(count - i));
    loop->set("revindex0", Value::integer(count - i - 1));
    loop->set("first", Value::boolean(i == 0));
    loop->set("last", Value::boolean(i + 1 == count));
    loop->set("length", Value::integer(count));
    loop->set("previtem", i > 0 ? items[at - 1] : Value::undefined("there is no previous item"));
    loop->set("nextitem", i + 1 < count ? items[at + 1] : Value::undefined("there is no next item"));
    scopes_.emplace_back();
    scopes_.back().emplace_back("loop", Value::dict(std::move(loop)));
    bind(node.names, items[at]);
    const Flow flow = failed() ? Flow::kBreak : run_all(node.body);
    scopes_.pop_back();
    if (flow == Flow::kBreak) break;
  }
  return failed() ? Flow::kBreak : Flow::kOn;
}

Value Machine::call_macro(const Node& macro, const Arguments& arguments) {
  const Deeper deeper(*this);
  if (failed()) return {};
  if (arguments.positional.size() > macro.names.size())
    return fail(fmt::format("macro '{}' takes not more than {} argument(s)", macro.name, macro.names.size()));
  for (const auto& [name, value] : arguments.named) {
    if (std::find(macro.names.begin(), macro.names.end(), name) == macro.names.end()) {
      return fail(fmt::format("macro '{}' takes no keyword argument '{}'", macro.name, name));
    }
  }
  const size_t outer_floor = std::exchange(floor_, scopes_.size());
  const int outer_line = line_;
  scopes_.emplace_back();
  const size_t first_default = macro.names.size() - macro.kids.size();
  for (size_t i = 0; i < macro.names.size(); ++i) {
    Value value = Value::undefined(fmt::format("parameter '{}' was not provided", macro.names[i]));
    if (const Value* given = arguments.get(static_cast<int>(i), macro.names[i])) {
      value = *given;
    } else if (i >= first_default) {
      value = eval(*macro.kids[i - first_default]);
    }
    assign(macro.names[i], std::move(value));
  }
  Text text = capture(macro.body);
  scopes_.pop_back();
  floor_ = outer_floor;
  line_ = outer_line;
  return failed() ? Value() : make_text(std::move(text));
}

}  // namespace sonde::jinja
