// Values of the template language. Texts remember, byte by byte, whether the template wrote them or a message did.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace sonde::jinja {

class Text {
 public:
  Text() = default;
  Text(std::string text, bool own) : text_(std::move(text)), own_(own) {}

  const std::string& str() const { return text_; }
  std::string_view view() const { return text_; }
  size_t size() const { return text_.size(); }
  bool empty() const { return text_.empty(); }
  bool own_at(size_t i) const { return marks_.empty() ? own_ : marks_[i] != 0; }
  bool all_own() const { return marks_.empty() ? own_ || text_.empty() : marks_.find('\0') == std::string::npos; }
  void append(const Text& other);
  void append(std::string_view text, bool own);
  Text sub(size_t at, size_t count = std::string::npos) const;
  Text sub(std::string_view part) const { return sub(static_cast<size_t>(part.data() - text_.data()), part.size()); }

 private:
  void mark();  // one mark per byte from here on
  std::string text_;
  std::string marks_;  // empty: all bytes are alike
  bool own_ = true;
};

struct Node;
class Value;
struct List;
struct Dict;
struct Undefined {
  std::string name;
};
struct None {};
// A macro of the template or a built-in function by name.
struct Function {
  const Node* macro = nullptr;
  std::string_view builtin;
};

class Value {
 public:
  Value() : state_(Undefined{}) {}
  static Value undefined(std::string name) { return Value(State(Undefined{std::move(name)})); }
  static Value none() { return Value(State(None{})); }
  static Value boolean(bool b) { return Value(State(b)); }
  static Value integer(int64_t i) { return Value(State(i)); }
  static Value real(double d) { return Value(State(d)); }
  static Value text(Text t) { return Value(State(std::make_shared<const Text>(std::move(t)))); }
  static Value own(std::string s) { return text(Text(std::move(s), true)); }
  static Value list(std::shared_ptr<const List> l) { return Value(State(std::move(l))); }
  static Value dict(std::shared_ptr<Dict> d) { return Value(State(std::move(d))); }
  static Value function(Function f) { return Value(State(f)); }

  bool is_undefined() const { return std::holds_alternative<Undefined>(state_); }
  bool is_none() const { return std::holds_alternative<None>(state_); }
  bool is_boolean() const { return std::holds_alternative<bool>(state_); }
  bool is_integer() const { return std::holds_alternative<int64_t>(state_); }
  bool is_real() const { return std::holds_alternative<double>(state_); }
  bool is_number() const { return is_integer() || is_real() || is_boolean(); }
  bool is_text() const { return std::holds_alternative<std::shared_ptr<const Text>>(state_); }
  bool is_list() const { return std::holds_alternative<std::shared_ptr<const List>>(state_); }
  bool is_dict() const { return std::holds_alternative<std::shared_ptr<Dict>>(state_); }
  bool is_function() const { return std::holds_alternative<Function>(state_); }

  const std::string& undefined_name() const { return std::get<Undefined>(state_).name; }
  bool as_boolean() const { return std::get<bool>(state_); }
  int64_t as_integer() const {
    return is_boolean() ? as_boolean() : std::get<int64_t>(state_);
  }  // integers and booleans
  double as_real() const { return is_real() ? std::get<double>(state_) : static_cast<double>(as_integer()); }
  const Text& as_text() const { return *std::get<std::shared_ptr<const Text>>(state_); }
  const List& as_list() const { return *std::get<std::shared_ptr<const List>>(state_); }
  Dict& as_dict() const { return *std::get<std::shared_ptr<Dict>>(state_); }
  const Function& as_function() const { return std::get<Function>(state_); }

 private:
  using State = std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const Text>,
                             std::shared_ptr<const List>, std::shared_ptr<Dict>, Function>;
  explicit Value(State state) : state_(std::move(state)) {}
  State state_;
};

struct List {
  std::vector<Value> items;
  bool tuple = false;
  int depth = 1;       // levels of containers, itself included
  int64_t weight = 1;  // values inside, counted as often as they appear; bounds what walking it costs
};

struct Dict {
  enum class Role { kPlain, kNamespace, kLoop };
  std::vector<std::pair<Value, Value>> items;  // in the order of insertion
  Role role = Role::kPlain;
  int depth = 1;
  int64_t weight = 1;

  const Value* find(std::string_view key) const;
  const Value* find(const Value& key) const;
  void set(std::string_view key, Value value);  // the key is a word of the template
  void set(Value key, Value value);
};

int depth_of(const Value& value);  // 0 for what is no container
int64_t weight_of(const Value& value);
bool truthy(const Value& value);
bool equal(const Value& a, const Value& b);
std::string_view type_name(const Value& value);  // as Python calls it
Text to_text(const Value& value);                // str(value)
Value from_json(const nlohmann::ordered_json& value, bool own);
// Nothing when the value holds something that JSON cannot say. `own` becomes false where any text came from a message.
std::optional<nlohmann::ordered_json> to_json(const Value& value, bool& own);

}  // namespace sonde::jinja
