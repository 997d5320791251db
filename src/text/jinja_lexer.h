// Template text -> tokens, with the white-space rules of Jinja under trim_blocks and lstrip_blocks (as chat templates
// are rendered).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sonde/result.h"

namespace sonde::jinja {

struct Token {
  enum class Kind {
    kData,
    kBlockBegin,
    kBlockEnd,
    kOutputBegin,
    kOutputEnd,
    kName,
    kText,
    kInteger,
    kReal,
    kOperator,
    kEnd
  };
  Kind kind;
  int line;
  std::string text;  // data, name, decoded literal, operator
  int64_t integer = 0;
  double real = 0;
};

Result<std::vector<Token>> tokenize(std::string_view source);
Error template_error(int line, std::string what);

}  // namespace sonde::jinja
