#include "text/python_text.h"

#include <fmt/format.h>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>
#include <vector>

namespace sonde {
namespace {

using Json = nlohmann::ordered_json;

// Non-ASCII characters as \uXXXX, in surrogate pairs where needed.
void escape_character(std::string& out, std::string_view text, size_t& at) {
  const auto byte = [&](size_t i) {
    return i < text.size() ? static_cast<uint32_t>(static_cast<unsigned char>(text[i])) : 0u;
  };
  const uint32_t a = byte(at);
  const size_t n = a >= 0xf0 ? 4 : a >= 0xe0 ? 3 : 2;
  uint32_t code = a & (0xffu >> (n + 1));
  for (size_t i = 1; i < n; ++i) code = (code << 6) | (byte(at + i) & 0x3f);
  at += n - 1;
  if (code < 0x10000) {
    out += fmt::format("\\u{:04x}", code);
  } else {
    code -= 0x10000;
    out += fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + (code >> 10), 0xdc00 + (code & 0x3ff));
  }
}

void write_json_string(std::string& out, std::string_view text, bool ascii) {
  out += '"';
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (ascii && static_cast<unsigned char>(c) >= 0x80) {
      escape_character(out, text, i);
      continue;
    }
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\b':
        out += "\\b";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

std::string json_float(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return python_float(value);
}

std::vector<std::pair<std::string_view, const Json*>> entries(const Json& object, bool sorted) {
  std::vector<std::pair<std::string_view, const Json*>> all;
  all.reserve(object.size());
  for (auto it = object.begin(); it != object.end(); ++it) all.emplace_back(it.key(), &*it);
  if (sorted) std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  return all;
}

void break_line(std::string& out, int indent, int depth) {
  out += '\n';
  out.append(static_cast<size_t>(indent) * static_cast<size_t>(depth), ' ');
}

void write_json(std::string& out, const Json& value, const JsonStyle& style, int depth) {
  const int indent = style.indent;
  const std::string_view comma = !style.comma.empty() ? std::string_view(style.comma) : indent < 0 ? ", " : ",";
  const std::string_view colon = !style.colon.empty() ? std::string_view(style.colon) : ": ";
  bool first = true;
  auto next = [&] {
    if (!first) out += comma;
    if (indent >= 0) break_line(out, indent, depth + 1);
    first = false;
  };
  switch (value.type()) {
    case Json::value_t::object:
      out += '{';
      for (const auto& [key, item] : entries(value, style.sorted)) {
        next();
        write_json_string(out, key, style.ascii);
        out += colon;
        write_json(out, *item, style, depth + 1);
      }
      if (!first && indent >= 0) break_line(out, indent, depth);
      out += '}';
      break;
    case Json::value_t::array:
      out += '[';
      for (const Json& item : value) {
        next();
        write_json(out, item, style, depth + 1);
      }
      if (!first && indent >= 0) break_line(out, indent, depth);
      out += ']';
      break;
    case Json::value_t::string:
      write_json_string(out, value.get_ref<const std::string&>(), style.ascii);
      break;
    case Json::value_t::boolean:
      out += value.get<bool>() ? "true" : "false";
      break;
    case Json::value_t::number_integer:
      out += std::to_string(value.get<int64_t>());
      break;
    case Json::value_t::number_unsigned:
      out += std::to_string(value.get<uint64_t>());
      break;
    case Json::value_t::number_float:
      out += json_float(value.get<double>());
      break;
    default:
      out += "null";
  }
}

// Length of the white-space character (str.isspace) at `at`, or 0.
size_t space_at(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const unsigned a = byte(at), b = byte(at + 1), c = byte(at + 2);
  if (at >= text.size()) return 0;
  if (a == ' ' || (a >= 0x09 && a <= 0x0d) || (a >= 0x1c && a <= 0x1f)) return 1;
  if (a == 0xc2 && (b == 0x85 || b == 0xa0)) return 2;                            // U+0085, U+00A0
  if (a == 0xe1 && b == 0x9a && c == 0x80) return 3;                              // U+1680
  if (a == 0xe2 && b == 0x80 && (c >= 0x80 && c <= 0x8a)) return 3;               // U+2000..200A
  if (a == 0xe2 && b == 0x80 && (c == 0xa8 || c == 0xa9 || c == 0xaf)) return 3;  // U+2028, 2029, 202F
  if (a == 0xe2 && b == 0x81 && c == 0x9f) return 3;                              // U+205F
  if (a == 0xe3 && b == 0x80 && c == 0x80) return 3;                              // U+3000
  return 0;
}

}  // namespace

std::string python_json(const Json& value, const JsonStyle& style) {
  std::string out;
  write_json(out, value, style, 0);
  return out;
}

std::string python_float(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  if (value == 0) return std::signbit(value) ? "-0.0" : "0.0";
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  std::string_view text(buffer, static_cast<size_t>(end - buffer));
  std::string out;
  if (text.front() == '-') {
    out = "-";
    text.remove_prefix(1);
  }
  const size_t e = text.find('e');
  int exponent = 0;
  std::string_view power = text.substr(e + 1);
  if (power.front() == '+') power.remove_prefix(1);
  std::from_chars(power.data(), power.data() + power.size(), exponent);
  std::string digits(1, text[0]);
  if (e > 2) digits += text.substr(2, e - 2);
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out += digits.substr(0, 1);
    if (count > 1) out += "." + digits.substr(1);
    out += fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  } else if (exponent < 0) {
    out += "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  } else if (count <= exponent + 1) {
    out += digits + std::string(static_cast<size_t>(exponent + 1 - count), '0') + ".0";
  } else {
    out += digits.substr(0, static_cast<size_t>(exponent) + 1) + "." + digits.substr(static_cast<size_t>(exponent) + 1);
  }
  return out;
}

std::string python_repr(std::string_view text) {
  const bool double_quotes = text.find('\'') != text.npos && text.find('"') == text.npos;
  const char quote = double_quotes ? '"' : '\'';
  std::string out(1, quote);
  for (char c : text) {
    if (c == quote || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out + quote;
}

std::string python_str(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_null()) return "None";
  if (value.is_boolean()) return value.get<bool>() ? "True" : "False";
  if (value.is_number_float()) return python_float(value.get<double>());
  if (!value.is_structured()) return python_json(value);
  std::string out(1, value.is_array() ? '[' : '{');
  bool first = true;
  for (auto it = value.begin(); it != value.end(); ++it) {
    if (!first) out += ", ";
    first = false;
    if (value.is_object()) out += python_repr(it.key()) + ": ";
    out += it->is_string() ? python_repr(it->get_ref<const std::string&>()) : python_str(*it);
  }
  return out + (value.is_array() ? ']' : '}');
}

std::string_view python_type(const Json& value) {
  switch (value.type()) {
    case Json::value_t::object:
      return "dict";
    case Json::value_t::array:
      return "list";
    case Json::value_t::string:
      return "str";
    case Json::value_t::boolean:
      return "bool";
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      return "int";
    case Json::value_t::number_float:
      return "float";
    default:
      return "NoneType";
  }
}

std::string_view python_lstrip(std::string_view text) {
  while (size_t n = space_at(text, 0)) text.remove_prefix(n);
  return text;
}

std::string_view python_rstrip(std::string_view text) {
  for (bool more = true; more;) {
    more = false;
    for (size_t n = 1; n <= 3 && n <= text.size(); ++n) {
      if (space_at(text, text.size() - n) == n) {
        text.remove_suffix(n);
        more = true;
        break;
      }
    }
  }
  return text;
}

std::string_view python_strip(std::string_view text) { return python_rstrip(python_lstrip(text)); }

std::string_view lstrip_of(std::string_view text, std::string_view characters) {
  const size_t at = text.find_first_not_of(characters);
  return at == text.npos ? std::string_view() : text.substr(at);
}

std::string_view rstrip_of(std::string_view text, std::string_view characters) {
  const size_t at = text.find_last_not_of(characters);
  return at == text.npos ? std::string_view() : text.substr(0, at + 1);
}

}  // namespace sonde
