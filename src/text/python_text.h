// Texts as Python prints them: published templates are rendered by Python, byte for byte.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace sonde {

// How json.dumps writes: one line with ", " and ": " unless `indent` >= 0.
struct JsonStyle {
  int indent = -1;
  bool ascii = false, sorted = false;
  std::string comma, colon;  // empty: the default of the style
};
std::string python_json(const nlohmann::ordered_json& value, const JsonStyle& style = {});
// repr(float): shortest digits, an exponent below 1e-4 and from 1e16 on.
std::string python_float(double value);
// str(value): None, True, 'quoted' inside lists and dictionaries.
std::string python_str(const nlohmann::ordered_json& value);
// repr(text).
std::string python_repr(std::string_view text);
// Name of the value's type in Python's messages: "NoneType", "str", "list" ...
std::string_view python_type(const nlohmann::ordered_json& value);

// str.strip() without arguments takes Unicode white space; with characters, those (ASCII).
std::string_view python_lstrip(std::string_view text);
std::string_view python_rstrip(std::string_view text);
std::string_view python_strip(std::string_view text);
std::string_view lstrip_of(std::string_view text, std::string_view characters);
std::string_view rstrip_of(std::string_view text, std::string_view characters);

}  // namespace sonde
