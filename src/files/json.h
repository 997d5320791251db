// JSON from files: bounded in depth before it is parsed, every failure an Error.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "sonde/result.h"

namespace sonde {

inline constexpr int kMaxJsonDepth = 64;

// Parses a whole text. Invalid UTF-8, trailing text and deeper nesting than kMaxJsonDepth are errors; so is a key that
// occurs twice in one object when `unique_keys` is set.
Result<nlohmann::json> parse_json(std::string_view text, const std::string& where, bool unique_keys = false);

// True when every byte belongs to well-formed UTF-8 (no surrogates, no overlong forms).
bool is_utf8(std::string_view text);
// The text with every malformed sequence replaced by U+FFFD: nlohmann refuses to write anything else.
std::string to_utf8(std::string_view text);

// A token id: a non-negative integer below 2^31.
std::optional<int32_t> token_id(const nlohmann::json& value);

}  // namespace sonde
