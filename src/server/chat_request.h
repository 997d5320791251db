// The body of POST /v1/chat/completions, as a typed and ranged schema. Null fields count as absent, unknown ones are
// ignored.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sonde/sampling.h"
#include "text/dialect.h"

namespace sonde {

// Sampling fields that were sent; the rest comes from the model's defaults.
struct SamplingFields {
  std::optional<double> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int> top_k;
  std::optional<uint64_t> seed;
  std::map<int32_t, double> logit_bias;

  void apply(SamplingOptions& options) const;
};

struct ChatRequest {
  std::string model;          // echoed
  Conversation conversation;  // repaired; thinking set from "thinking": {"type": "enabled" | "disabled"}
  bool stream = false, include_usage = false;
  std::optional<int64_t> max_tokens;  // max_tokens or max_completion_tokens
  SamplingFields sampling;
  std::vector<std::string> stop;
  int logprobs = -1;                   // -1: none; else top_logprobs 0 ... 20
  std::optional<int> thinking_budget;  // tokens; ours
};

// Errors have code kInvalid and the field's name in `where`.
Result<ChatRequest> parse_chat_request(std::string_view body);

}  // namespace sonde
