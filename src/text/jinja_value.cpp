#include "text/jinja_value.h"

#include <algorithm>

#include "text/python_text.h"

namespace sonde::jinja {

void Text::mark() {
  if (marks_.empty()) marks_.assign(text_.size(), own_ ? '\1' : '\0');
}

void Text::append(std::string_view text, bool own) {
  if (text.empty()) return;
  if (text_.empty()) {
    own_ = own;
    marks_.clear();
  } else if (!marks_.empty() || own_ != own) {
    mark();
    marks_.append(text.size(), own ? '\1' : '\0');
  }
  text_ += text;
}

void Text::append(const Text& other) {
  if (other.marks_.empty()) return append(other.text_, other.own_);
  mark();
  marks_ += other.marks_;
  text_ += other.text_;
}

Text Text::sub(size_t at, size_t count) const {
  Text part(text_.substr(at, count), own_);
  if (!marks_.empty()) part.marks_ = marks_.substr(at, count);
  return part;
}

const Value* Dict::find(std::string_view key) const {
  for (const auto& [name, value] : items) {
    if (name.is_text() && name.as_text().view() == key) return &value;
  }
  return nullptr;
}

const Value* Dict::find(const Value& key) const {
  if (key.is_text()) return find(key.as_text().view());
  for (const auto& [name, value] : items) {
    if (equal(name, key)) return &value;
  }
  return nullptr;
}

void Dict::set(std::string_view key, Value value) { set(Value::own(std::string(key)), std::move(value)); }

void Dict::set(Value key, Value value) {
  depth = std::max(depth, 1 + depth_of(value));
  weight += weight_of(key) + weight_of(value);
  if (const Value* old = find(key)) {
    *const_cast<Value*>(old) = std::move(value);
  } else {
    items.emplace_back(std::move(key), std::move(value));
  }
}

int depth_of(const Value& value) {
  if (value.is_list()) return value.as_list().depth;
  if (value.is_dict()) return value.as_dict().depth;
  return 0;
}

int64_t weight_of(const Value& value) {
  if (value.is_list()) return value.as_list().weight;
  if (value.is_dict()) return value.as_dict().weight;
  return value.is_text() ? 1 + static_cast<int64_t>(value.as_text().size() / 16) : 1;
}

bool truthy(const Value& value) {
  if (value.is_undefined() || value.is_none()) return false;
  if (value.is_boolean()) return value.as_boolean();
  if (value.is_number()) return value.as_real() != 0;
  if (value.is_text()) return !value.as_text().empty();
  if (value.is_list()) return !value.as_list().items.empty();
  if (value.is_dict()) return value.as_dict().role != Dict::Role::kPlain || !value.as_dict().items.empty();
  return true;
}

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    return a.is_real() || b.is_real() ? a.as_real() == b.as_real() : a.as_integer() == b.as_integer();
  }
  if (a.is_text() && b.is_text()) return a.as_text().str() == b.as_text().str();
  if (a.is_none() && b.is_none()) return true;
  if (a.is_undefined() && b.is_undefined()) return true;
  if (a.is_list() && b.is_list()) {
    const List &x = a.as_list(), &y = b.as_list();
    return x.tuple == y.tuple && std::equal(x.items.begin(), x.items.end(), y.items.begin(), y.items.end(), equal);
  }
  if (a.is_dict() && b.is_dict()) {
    const Dict &x = a.as_dict(), &y = b.as_dict();
    return &x == &y ||
           (x.items.size() == y.items.size() && std::all_of(x.items.begin(), x.items.end(), [&](const auto& entry) {
              const Value* other = y.find(entry.first);
              return other && equal(entry.second, *other);
            }));
  }
  return false;
}

std::string_view type_name(const Value& value) {
  if (value.is_undefined()) return "Undefined";
  if (value.is_none()) return "NoneType";
  if (value.is_boolean()) return "bool";
  if (value.is_integer()) return "int";
  if (value.is_real()) return "float";
  if (value.is_text()) return "str";
  if (value.is_list()) return value.as_list().tuple ? "tuple" : "list";
  if (value.is_dict()) return value.as_dict().role == Dict::Role::kPlain ? "dict" : "Namespace";
  return "function";
}

namespace {

void write_inner(Text& out, const Value& value) {
  if (!value.is_text()) {
    out.append(to_text(value));
  } else {
    out.append(python_repr(value.as_text().view()), value.as_text().all_own());
  }
}

}  // namespace

Text to_text(const Value& value) {
  if (value.is_text()) return value.as_text();
  if (value.is_undefined()) return {};
  if (value.is_none()) return Text("None", true);
  if (value.is_boolean()) return Text(value.as_boolean() ? "True" : "False", true);
  if (value.is_integer()) return Text(std::to_string(value.as_integer()), true);
  if (value.is_real()) return Text(python_float(value.as_real()), true);
  if (value.is_function()) return Text("<function>", true);
  Text out;
  bool first = true;
  const auto next = [&] {
    if (!first) out.append(", ", true);
    first = false;
  };
  if (value.is_list()) {
    const List& list = value.as_list();
    out.append(list.tuple ? "(" : "[", true);
    for (const Value& item : list.items) {
      next();
      write_inner(out, item);
    }
    out.append(!list.tuple ? "]" : list.items.size() == 1 ? ",)" : ")", true);
    return out;
  }
  out.append("{", true);
  for (const auto& [key, item] : value.as_dict().items) {
    next();
    write_inner(out, key);
    out.append(": ", true);
    write_inner(out, item);
  }
  out.append("}", true);
  return out;
}

Value from_json(const nlohmann::ordered_json& value, bool own) {
  using Json = nlohmann::ordered_json;
  switch (value.type()) {
    case Json::value_t::boolean:
      return Value::boolean(value.get<bool>());
    case Json::value_t::number_integer:
      return Value::integer(value.get<int64_t>());
    case Json::value_t::number_unsigned:
      if (value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) return Value::real(value.get<double>());
      return Value::integer(value.get<int64_t>());
    case Json::value_t::number_float:
      return Value::real(value.get<double>());
    case Json::value_t::string:
      return Value::text(Text(value.get<std::string>(), own));
    case Json::value_t::array: {
      auto list = std::make_shared<List>();
      list->items.reserve(value.size());
      for (const Json& item : value) {
        list->items.push_back(from_json(item, own));
        list->depth = std::max(list->depth, 1 + depth_of(list->items.back()));
        list->weight += weight_of(list->items.back());
      }
      return Value::list(std::move(list));
    }
    case Json::value_t::object: {
      auto dict = std::make_shared<Dict>();
      dict->items.reserve(value.size());
      for (auto it = value.begin(); it != value.end(); ++it) {
        dict->items.emplace_back(Value::text(Text(it.key(), own)), from_json(*it, own));
        dict->depth = std::max(dict->depth, 1 + depth_of(dict->items.back().second));
        dict->weight += weight_of(dict->items.back().first) + weight_of(dict->items.back().second);
      }
      return Value::dict(std::move(dict));
    }
    default:
      return Value::none();
  }
}

std::optional<nlohmann::ordered_json> to_json(const Value& value, bool& own) {
  using Json = nlohmann::ordered_json;
  if (value.is_none()) return Json(nullptr);
  if (value.is_boolean()) return Json(value.as_boolean());
  if (value.is_integer()) return Json(value.as_integer());
  if (value.is_real()) return Json(value.as_real());
  if (value.is_text()) {
    own = own && value.as_text().all_own();
    return Json(value.as_text().str());
  }
  if (value.is_list()) {
    Json list = Json::array();
    for (const Value& item : value.as_list().items) {
      auto inner = to_json(item, own);
      if (!inner) return std::nullopt;
      list.push_back(std::move(*inner));
    }
    return list;
  }
  if (!value.is_dict() || value.as_dict().role != Dict::Role::kPlain) return std::nullopt;
  Json object = Json::object();
  for (const auto& [key, item] : value.as_dict().items) {
    auto inner = to_json(item, own);
    if (!inner || !(key.is_text() || key.is_number() || key.is_none())) return std::nullopt;
    if (key.is_text()) {
      own = own && key.as_text().all_own();
      object[key.as_text().str()] = std::move(*inner);
    } else {
      bool ignored = true;
      object[python_json(*to_json(key, ignored))] = std::move(*inner);
    }
  }
  return object;
}

}  // namespace sonde::jinja
