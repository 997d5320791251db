// Runs a parsed template. Data only: no attribute beyond the values that were passed, and everything is bounded.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja_ast.h"

namespace sonde::jinja {

struct Limits {
  int64_t steps = 50'000'000;        // nodes evaluated
  int64_t bytes = int64_t{1} << 30;  // bytes of texts and lists made, in all
  int64_t output = 64 << 20;         // bytes of the prompt
};
inline constexpr int kMaxDepth = 800;       // nested evaluations, macros included
inline constexpr int kMaxValueDepth = 250;  // nested lists and dictionaries
inline constexpr int64_t kMaxWeight = 50'000'000;

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string_view, Value>> named;
  // Argument i (-1: by name only), or null.
  const Value* get(int i, std::string_view name) const;
};

class Machine {
 public:
  explicit Machine(const Limits& limits) : limits_(limits), scopes_(1) {}

  void set_global(std::string name, Value value);
  Result<Text> run(const Nodes& nodes);

  // For filters, tests and functions. fail() keeps the first error and gives something undefined.
  Value fail(std::string what);
  bool failed() const { return error_.has_value(); }
  bool charge(int64_t bytes);
  bool walk(const Value& value) { return charge(weight_of(value) * 16); }  // before anything that visits all of it
  Value make_list(std::vector<Value> items, bool tuple = false);
  Value make_text(Text text);
  // What a loop over the value sees; fails where Python does.
  std::vector<Value> iterate(const Value& value);
  Value attribute(const Value& object, std::string_view name);
  Value item(const Value& object, const Value& key);
  Value path(const Value& object, const Value& name);  // "a.b" or a number, as map(attribute=...) takes it
  Value add(const Value& a, const Value& b);
  std::optional<bool> less(const Value& a, const Value& b);
  bool contains(const Value& container, const Value& item);
  Value apply(std::string_view filter, const Value& value, const Arguments& arguments);
  bool test(std::string_view name, const Value& value, const Arguments& arguments);
  Value call_method(const Value& object, std::string_view name, const Arguments& arguments);
  Value call_builtin(std::string_view name, const Arguments& arguments);

 private:
  enum class Flow { kOn, kBreak, kContinue };
  using Scope = std::vector<std::pair<std::string, Value>>;
  struct Deeper;

  Flow run_all(const Nodes& nodes);
  Flow run_one(const Node& node);
  Flow run_for(const Node& node);
  void run_set(const Node& node);
  Text capture(const Nodes& nodes);
  void write(const Text& text);
  void bind(const std::vector<std::string>& names, Value value);
  void assign(std::string_view name, Value value);
  Value look_up(const std::string& name);
  Value eval(const Node& node);
  Value eval_node(const Node& node);
  Value eval_binary(const Node& node);
  Value eval_compare(const Node& node);
  Value eval_slice(const Node& node);
  Value eval_call(const Node& node);
  Value eval_dict(const Node& node);
  Value call_macro(const Node& macro, const Arguments& arguments);
  Arguments eval_arguments(const Node& node);
  Value arithmetic(std::string_view name, const Value& a, const Value& b);

  Limits limits_;
  int64_t steps_ = 0, bytes_ = 0;
  int depth_ = 0, line_ = 1;
  std::vector<Scope> scopes_;  // [0]: the template's own
  size_t floor_ = 1;           // scopes below (but for [0]) belong to the callers of a macro
  Text* out_ = nullptr;
  std::vector<Text> bodies_;  // captured bodies for kBodyText
  std::optional<Error> error_;
};

// Starts of the characters, and the end.
std::vector<size_t> characters(std::string_view text);
size_t character_count(std::string_view text);

}  // namespace sonde::jinja
