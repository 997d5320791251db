#include "cli/jsonl.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/output.h"
#include "cli/progress.h"

namespace sonde {

Result<nlohmann::ordered_json> parse_json(std::string_view text, int max_depth) {
  // Writing and rendering walk a value recursively, so its depth is bounded before it is built.
  int depth = 0;
  bool inside = false, escaped = false;
  for (const char c : text) {
    if (inside) {
      if (escaped)
        escaped = false;
      else if (c == '\\')
        escaped = true;
      else if (c == '"')
        inside = false;
    } else if (c == '"') {
      inside = true;
    } else if (c == '[' || c == '{') {
      if (++depth > max_depth)
        return Error{.code = Code::kTooLarge, .what = "JSON nested deeper than " + std::to_string(max_depth)};
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  try {
    return nlohmann::ordered_json::parse(text);
  } catch (const nlohmann::ordered_json::exception& e) {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ..." without the library's own number.
    std::string_view what = e.what();
    if (const auto end = what.find("] "); what.starts_with("[") && end != what.npos) what.remove_prefix(end + 2);
    return Error{.code = Code::kInvalid, .what = "not JSON: " + std::string(what)};
  }
}

Result<std::string> text_field(const nlohmann::ordered_json& line, const char* key) {
  const auto field = line.find(key);
  if (field == line.end() || field->is_null())
    return Error{.code = Code::kInvalid, .what = std::string("\"") + key + "\" is missing"};
  if (!field->is_string())
    return Error{
        .code = Code::kInvalid, .what = std::string("\"") + key + "\" is not a text", .found = field->type_name()};
  return field->get<std::string>();
}

Result<bool> bool_field(const nlohmann::ordered_json& line, const char* key, bool otherwise) {
  const auto field = line.find(key);
  if (field == line.end() || field->is_null()) return otherwise;
  if (!field->is_boolean())
    return Error{.code = Code::kInvalid,
                 .what = std::string("\"") + key + "\" is neither true nor false",
                 .found = field->type_name()};
  return field->get<bool>();
}

int run_json_lines(const std::string& path,
                   const std::function<Result<nlohmann::ordered_json>(const nlohmann::ordered_json&)>& answer) {
  std::ifstream file;
  const bool standard = path == "-";
  if (!standard) {
    errno = 0;
    file.open(path, std::ios::binary);
    if (!file || file.peek() == std::ifstream::traits_type::eof()) {
      if (!file.eof() || errno != 0)
        return fail({.code = errno == ENOENT ? Code::kNotFound : Code::kIo,
                     .what = "cannot be read",
                     .where = path,
                     .found = std::strerror(errno)});
      file.clear();
    }
  }
  std::istream& in = standard ? std::cin : file;
  ProgressLine progress("lines", 0, "lines");
  int64_t done = 0;
  for (std::string text; std::getline(in, text);) {
    const auto line = [&]() -> Result<nlohmann::ordered_json> {
      SONDE_TRY(const nlohmann::ordered_json value, parse_json(text));
      if (!value.is_object())
        return Error{.code = Code::kInvalid, .what = "not a JSON object", .found = value.type_name()};
      return answer(value);
    }();
    print_line(line.ok() ? *line : nlohmann::ordered_json{{"error", line.error().message()}});
    if (standard) flush();
    progress.update(++done);
  }
  return kOk;
}

}  // namespace sonde
