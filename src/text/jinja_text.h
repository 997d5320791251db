// Work on texts that keeps the origin of every byte.
#pragma once

#include "text/jinja_value.h"

namespace sonde::jinja {

enum class Case { kUpper, kLower, kTitle, kCapitalize };
Text map_case(const Text& text, Case to);
Text replace_all(const Text& text, std::string_view from, const Text& to, int64_t count);  // count < 0: all

}  // namespace sonde::jinja
