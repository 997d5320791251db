// Bodies of POST /v1/chat/completions: any bytes give a request within its ranges, or one error.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "server/chat_request.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  const auto parsed = sonde::parse_chat_request({reinterpret_cast<const char*>(data), size});
  if (!parsed.ok()) {
    if (parsed.error().message().empty()) std::abort();
    return 0;
  }
  sonde::SamplingOptions sampling;
  parsed->sampling.apply(sampling);
  if (!parsed->conversation.messages.is_array() || parsed->conversation.messages.empty()) std::abort();
  if (parsed->logprobs < -1 || parsed->logprobs > 20) std::abort();
  if (!(sampling.temperature >= 0 && sampling.temperature <= 2) || !(sampling.top_p > 0 && sampling.top_p <= 1))
    std::abort();
  return 0;
}
