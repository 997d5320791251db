// GGUF files from arbitrary bytes, through everything that opening one does.
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "files/gguf.h"
#include "files/gguf_config.h"
#include "files/gguf_tensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto file = sonde::parse_gguf(bytes, "fuzz");
  if (!file.ok()) return 0;
  for (const auto& [key, value] : file->metadata) (void)value.json(4).dump();
  (void)sonde::gguf_vocabulary(*file, "fuzz").ok();
  const auto config = sonde::gguf_config(*file, "fuzz");
  if (!config.ok()) return 0;
  std::map<std::string, sonde::Tensor, std::less<>> tensors;
  (void)sonde::add_gguf_tensors(*file, *config, "fuzz", tensors).ok();
  for (const auto& [name, tensor] : tensors) {
    if (static_cast<int64_t>(tensor.bytes.size()) != tensor.type->row_bytes(tensor.count())) std::abort();
    if (!tensor.bytes.empty() && (tensor.bytes.data() < bytes.data() || &tensor.bytes.back() > &bytes.back()))
      std::abort();
  }
  return 0;
}
