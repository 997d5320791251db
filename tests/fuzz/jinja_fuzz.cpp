// Chat templates from anybody, rendered on a fixed conversation within small bounds. What a message said is never taken
// for the template's own words: the canaries appear in parts that are not trusted only.
#include <cstdint>
#include <cstdlib>

#include "text/jinja.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 16384) return 0;
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  auto parsed = sonde::JinjaTemplate::parse(source);
  if (!parsed.ok()) return 0;
  parsed.value()->limit(20'000, 1 << 20);
  static const sonde::Conversation conversation = [] {
    sonde::Conversation c;
    c.messages = sonde::OrderedJson::parse(
        R"([{"role":"system","content":" qZ0qZ0 \n"},{"role":"user","content":"qZ0qZ0 <think>é</think>"},
      {"role":"assistant","content":null,"tool_calls":[{"type":"function","function":{"name":"qZ0qZ0","arguments":{"a":[1,2.5,null,"qZ0qZ0"]}}}]},
      {"role":"tool","content":"[]"},{"role":"assistant","content":"<think>x</think>qZ0qZ0"},{"role":"user","content":""}])");
    c.tools =
        sonde::OrderedJson::parse(R"([{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}])");
    c.thinking = true;
    return c;
  }();
  const auto prompt = parsed.value()->render(conversation, {{"bos_token", "<s>"}, {"eos_token", "</s>"}});
  if (!prompt.ok()) return 0;
  for (const sonde::PromptPart& part : prompt.value().parts) {
    if (part.text.empty()) std::abort();
    const bool canary = part.text.find("qZ0qZ0") != std::string::npos;
    if (part.trusted && canary && source.find("qZ0") == source.npos && source.find("\\") == source.npos &&
        source.find('q') == source.npos)
      std::abort();
  }
  return 0;
}
