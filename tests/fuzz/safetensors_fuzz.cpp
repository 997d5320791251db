// safetensors headers and index files from arbitrary bytes.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "files/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  if (const auto file = sonde::parse_safetensors(bytes, "fuzz"); file.ok()) {
    for (const auto& [name, tensor] : file->tensors) {
      if (static_cast<int64_t>(tensor.bytes.size()) != tensor.type->row_bytes(tensor.count())) std::abort();
      if (!tensor.bytes.empty() && (tensor.bytes.data() < bytes.data() || &tensor.bytes.back() > &bytes.back()))
        std::abort();
    }
  }
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto index = sonde::parse_safetensors_index(text, "fuzz"); index.ok()) {
    for (const auto& [name, file] : *index) {
      if (file.find('/') != std::string::npos || file == "..") std::abort();
    }
  }
  return 0;
}
