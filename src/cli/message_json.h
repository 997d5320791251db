// A parsed answer as JSON.
#pragma once

#include <nlohmann/json.hpp>

#include "text/dialect.h"

namespace sonde {

// {"reasoning_content", "content", "tool_calls": [{"name", "arguments"}]}; the caller adds finish_reason.
inline nlohmann::ordered_json message_json(const ParsedMessage& message) {
  nlohmann::ordered_json calls = nlohmann::ordered_json::array();
  for (const ToolCallText& call : message.tool_calls)
    calls.push_back({{"name", call.name}, {"arguments", call.arguments}});
  nlohmann::ordered_json json = {{"reasoning_content", nullptr}, {"content", message.content}, {"tool_calls", calls}};
  if (message.reasoning_content) json["reasoning_content"] = *message.reasoning_content;
  return json;
}

}  // namespace sonde
