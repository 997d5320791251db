// Reading output: how a dialect writes thoughts and tool calls.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "text/dialect.h"

namespace sonde {

enum class Reasoning {
  kNone,  // all is content
  kTags,  // <think> ... </think>; at most two newlines are taken away in front of the thought and of the answer
};
enum class Calls {
  kNone,
  kDeepseekFenced,  // V3, R1: TYPE <sep> NAME, then the arguments in a ```json fence
  kDeepseekPlain,   // V3.1: NAME <sep> ARGUMENTS
  kHermes,          // <tool_call>{"name", "arguments"}</tool_call>
  kLlamaJson,       // the whole answer is {"name", "parameters"}
};
struct OutputStyle {
  Reasoning reasoning = Reasoning::kNone;
  Calls calls = Calls::kNone;
};

// true: the prompt left a thought open; false: it closed one; nothing: no think tag at its end, the model may open one
// itself.
std::optional<bool> thought_at_end(std::string_view prompt_end);

std::unique_ptr<OutputParser> make_output_parser(OutputStyle style, std::string_view prompt_end);

// Length of the longest end of `text` that could be the beginning of `marker` (and is not all of it).
size_t partial_marker(std::string_view text, std::string_view marker);

// The calls of one block, or nothing when anything in it is malformed.
std::optional<std::vector<ToolCallText>> parse_deepseek_calls(std::string_view body, bool fenced);
// {"name", KEY: arguments}; absent arguments are {}. `text`: one JSON object with white space around it.
std::optional<ToolCallText> parse_json_call(std::string_view text, std::string_view key);

}  // namespace sonde
