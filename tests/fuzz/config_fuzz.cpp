// config.json, generation_config.json and tokenizer_config.json from arbitrary bytes.
#include <cstdint>
#include <string_view>

#include "files/folder.h"
#include "files/json.h"
#include "model/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)sonde::parse_tokenizer_config(text, "fuzz").ok();
  const auto json = sonde::parse_json(text, "fuzz");
  if (!json.ok()) return 0;
  std::vector<int32_t> ids;
  sonde::add_end_tokens(*json, ids);
  (void)sonde::scale_block(*json, "fuzz").ok();
  (void)sonde::ModelConfig::from_json(*json).ok();
  return 0;
}
