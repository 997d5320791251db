// What the dialects with <|im_start|> share.
#pragma once

#include "text/dialects/native.h"

namespace sonde::chatml {

inline constexpr std::string_view kStart = "<|im_start|>", kEnd = "<|im_end|>";

// How Qwen's templates list tools, after the system message's own text.
void write_tools(const OrderedJson& tools, std::string_view heading, PromptWriter& out);
// A tool's result; neighbours share one user turn.
void write_tool_result(const OrderedJson& messages, size_t index, PromptWriter& out);
// arguments: what the message holds, a JSON text parsed first where `parse`.
OrderedJson arguments_of(const OrderedJson& function, PromptWriter& out);

}  // namespace sonde::chatml
