#include "sample/validate.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

namespace sonde {
namespace {

Status in_range(std::string_view name, double value, double low, double high, bool open_low, bool open_high) {
  const bool good =
      std::isfinite(value) && (open_low ? value > low : value >= low) && (open_high ? value < high : value <= high);
  if (good) return {};
  std::string expected;
  if (std::isinf(high)) {
    expected = fmt::format("{} {}", open_low ? "above" : "at least", low);
  } else {
    expected = fmt::format("a number in {}{}, {}{}", open_low ? '(' : '[', low, high, open_high ? ')' : ']');
  }
  return Error{.code = Code::kInvalid,
               .what = fmt::format("{} is out of range", name),
               .where = "sampling",
               .expected = std::move(expected),
               .found = fmt::format("{}", value),
               .hint = ""};
}

}  // namespace

Status validate(const SamplingOptions& o, int64_t vocab_size) {
  const double inf = std::numeric_limits<double>::infinity();
  SONDE_CHECK(in_range("temperature", o.temperature, 0, inf, false, false));
  SONDE_CHECK(in_range("top_p", o.top_p, 0, 1, true, false));
  SONDE_CHECK(in_range("top_k", o.top_k, 0, inf, false, false));
  SONDE_CHECK(in_range("min_p", o.min_p, 0, 1, false, true));
  SONDE_CHECK(in_range("repetition_penalty", o.repetition_penalty, 0, inf, true, false));
  SONDE_CHECK(in_range("presence_penalty", o.presence_penalty, -2, 2, false, false));
  SONDE_CHECK(in_range("frequency_penalty", o.frequency_penalty, -2, 2, false, false));
  for (const auto& [id, bias] : o.logit_bias) {
    if (id < 0 || id >= vocab_size) {
      return Error{.code = Code::kInvalid,
                   .what = "logit_bias names a token that does not exist",
                   .where = "sampling",
                   .expected = fmt::format("an id in [0, {}]", vocab_size - 1),
                   .found = fmt::format("{}", id),
                   .hint = ""};
    }
    SONDE_CHECK(in_range(fmt::format("logit_bias of token {}", id), bias, -1e4, 1e4, false, false));
  }
  return {};
}

}  // namespace sonde
