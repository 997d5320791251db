// Output parsers: the first byte names a dialect, the second how the prompt ended and whether the limit cut the output,
// the third seeds the cuts; the rest is what a model wrote. However it is cut, the sum of the deltas is one and the
// same message.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "text/dialect.h"

namespace {

struct Sum {
  std::string reasoning, content, calls;
  bool operator==(const Sum&) const = default;

  void add(const sonde::MessageDelta& delta) {
    reasoning += delta.reasoning_content;
    content += delta.content;
    for (const auto& call : delta.tool_calls)
      calls += std::to_string(call.index) + call.name + '\0' + call.arguments + '\0';
  }
};

std::pair<Sum, sonde::ParsedMessage> parse(const sonde::Dialect& dialect, std::string_view end, std::string_view raw,
                                           bool cut, uint32_t seed) {
  const auto parser = dialect.parser(end);
  Sum sum;
  while (!raw.empty()) {
    seed = seed * 1664525u + 1013904223u;
    const size_t n = std::min<size_t>(raw.size(), 1 + (seed >> 24) % 9);
    sum.add(parser->push(raw.substr(0, n)));
    raw.remove_prefix(n);
  }
  sum.add(parser->finish(cut));
  return {sum, parser->message()};
}

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3) return 0;
  const auto names = sonde::dialect_names();
  const auto dialect = sonde::dialect_by_name(names[data[0] % names.size()]);
  require(dialect.ok());
  static constexpr std::string_view kEnds[] = {"", "<think>", "<think>\n", "</think>\n\n"};
  const std::string_view end = kEnds[data[1] % 4], raw(reinterpret_cast<const char*>(data) + 3, size - 3);
  const bool cut = (data[1] & 4) != 0;

  const auto parser = dialect.value()->parser(end);
  Sum whole;
  whole.add(parser->push(raw));
  whole.add(parser->finish(cut));
  const sonde::ParsedMessage& message = parser->message();
  require(whole.reasoning == message.reasoning_content.value_or("") && whole.content == message.content);
  for (uint32_t seed : {uint32_t{data[2]}, uint32_t{data[2]} * 977u + 1u}) {
    const auto [sum, other] = parse(*dialect.value(), end, raw, cut, seed);
    require(sum == whole && other.finish_reason == message.finish_reason && other.error == message.error);
    require(other.tool_calls.size() == message.tool_calls.size());
  }
  return 0;
}
