// safetensors: u64 header length, a JSON header, the tensors' bytes without gaps. One file in, one file out; folders
// and shards are the Checkpoint's business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "files/map.h"
#include "files/output.h"
#include "sonde/result.h"
#include "tensor/tensor.h"

namespace sonde {

struct Safetensors {
  std::map<std::string, Tensor, std::less<>> tensors;
  std::map<std::string, std::string> metadata;  // __metadata__
  std::size_t header_bytes = 0;                 // the length before it included
  std::shared_ptr<const MappedFile> file;       // what the tensors point into; null when parsed from memory

  const Tensor* find(std::string_view name) const {
    const auto at = tensors.find(name);
    return at == tensors.end() ? nullptr : &at->second;
  }
};

// Views into `bytes`; `where` names the file in errors.
Result<Safetensors> parse_safetensors(std::span<const std::byte> bytes, const std::string& where);
// Maps a file and parses it.
Result<Safetensors> open_safetensors(const std::string& path);

// What a sharded folder's index says: tensor name -> file name. File names that would leave the folder are errors.
Result<std::map<std::string, std::string>> parse_safetensors_index(std::string_view text, const std::string& where);

struct TensorToWrite {
  std::string name;
  Tensor tensor;  // bytes may be empty when they are streamed
};

// Writes a file tensor by tensor: declare all, begin, then their bytes in the declared order.
class SafetensorsWriter {
 public:
  void set_metadata(std::string key, std::string value) { metadata_[std::move(key)] = std::move(value); }
  void declare(std::string name, const Type& type, std::vector<int64_t> shape);
  Status begin(const std::string& path);
  Status write(std::span<const std::byte> bytes);  // any pieces; their sum must be the declared bytes
  Status finish();

 private:
  struct Entry {
    std::string name;
    const Type* type;
    std::vector<int64_t> shape;
  };
  std::map<std::string, std::string> metadata_;
  std::vector<Entry> entries_;
  std::unique_ptr<OutputFile> file_;
  int64_t total_ = 0, written_ = 0;
};

// All at once; wider types come first, so that every tensor is aligned to its type.
Status write_safetensors(const std::string& path, std::vector<TensorToWrite> tensors,
                         const std::map<std::string, std::string>& metadata = {});

}  // namespace sonde
