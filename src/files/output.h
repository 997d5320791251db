// A file that appears under its name only when it is complete.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "sonde/result.h"

namespace sonde {

class OutputFile {
 public:
  // Opens `path`.tmp-<process> beside the final name.
  static Result<std::unique_ptr<OutputFile>> create(const std::string& path);
  ~OutputFile();  // removes what was not committed
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  Status write(std::span<const std::byte> bytes);
  Status write(std::string_view text) { return write(std::as_bytes(std::span(text.data(), text.size()))); }
  Status zeros(int64_t count);
  int64_t position() const { return position_; }
  const std::string& path() const { return path_; }
  // Flushes to the disk and renames; the file at `path` is replaced at once.
  Status commit();

 private:
  OutputFile(std::string path, std::string temporary, int fd);
  Status flush();
  std::string path_, temporary_, buffer_;
  int fd_;
  int64_t position_ = 0;
};

// A small file in one go, atomically.
Status write_text(const std::string& path, std::string_view text);

}  // namespace sonde
