// JSON lines: one line out for each line in, in order; a line that fails becomes {"error": "..."}.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "sonde/result.h"

namespace sonde {

// Reads `path` ("-": standard input), each line an object, and prints what `answer` makes of it. The exit code is kOk
// even where lines hold errors; kFailure where the file cannot be read.
int run_json_lines(const std::string& path,
                   const std::function<Result<nlohmann::ordered_json>(const nlohmann::ordered_json& line)>& answer);

// A JSON value of bounded nesting, or an error; foreign text of any kind.
Result<nlohmann::ordered_json> parse_json(std::string_view text, int max_depth = 200);

// Fields of a line: an error where the kind is wrong; absent and null are the same.
Result<std::string> text_field(const nlohmann::ordered_json& line, const char* key);
Result<bool> bool_field(const nlohmann::ordered_json& line, const char* key, bool otherwise);

}  // namespace sonde
