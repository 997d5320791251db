// Errors of this folder in one line each.
#pragma once

#include <string>
#include <utility>

#include "sonde/result.h"

namespace sonde {

inline Error file_error(Code code, std::string where, std::string what, std::string expected = {},
                        std::string found = {}, std::string hint = {}) {
  return Error{code, std::move(what), std::move(where), std::move(expected), std::move(found), std::move(hint)};
}

inline Error corrupt(std::string where, std::string what, std::string expected = {}, std::string found = {},
                     std::string hint = {}) {
  return file_error(Code::kCorrupt, std::move(where), std::move(what), std::move(expected), std::move(found),
                    std::move(hint));
}

}  // namespace sonde
