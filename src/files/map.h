// Files as bytes: mapped read-only, or small texts read whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "sonde/result.h"

namespace sonde {

// A file mapped read-only for as long as this object lives. Takes as much address space as the file has bytes.
class MappedFile {
 public:
  static Result<std::shared_ptr<const MappedFile>> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  int64_t modified() const { return modified_; }  // when the file was opened: nanoseconds since 1970
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

 private:
  MappedFile(std::string path, const std::byte* data, std::size_t size, int64_t modified);
  std::string path_;
  const std::byte* data_;
  std::size_t size_;
  int64_t modified_;
};

// Tells the system how mapped bytes will be used; only ever a hint.
enum class Advice { kSequential, kRandom, kWillNeed, kDone };  // kDone: not soon again
void advise(std::span<const std::byte> bytes, Advice advice);

// The whole of a small file; larger than `limit` bytes is an error.
Result<std::string> read_text(const std::string& path, int64_t limit);

}  // namespace sonde
