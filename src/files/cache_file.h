// A file made from other files and kept for the next start: a page of header, then bytes that are used as they lie.
//
// Header, in the machine's byte order: magic [8], u32 layout, u32 parts, i64 bytes behind the header, source [32],
// content [32], SHA-256 of all these [32]; zeros up to the page. It is written last, when the bytes are on the disk;
// then the file gets its name. So a file that has the name and a sound header is whole, however its making ended.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sonde/result.h"

namespace sonde {

using Digest = std::array<unsigned char, 32>;
Digest sha256(std::string_view bytes);
std::string hex(std::span<const unsigned char> bytes);

class CacheFile {
 public:
  struct Key {
    uint32_t layout = 0;  // version of what the bytes mean
    Digest source{};      // what they were made from
  };
  // The whole file at `path` for this key, mapped read-only. Null: there is none, or not a sound one, or another's.
  static std::unique_ptr<CacheFile> find(const std::string& path, const Key& key);
  // A new one of `bytes` bytes, without a name until commit(). kTooLarge: the disk has no room for it.
  static Result<std::unique_ptr<CacheFile>> create(const std::string& path, const Key& key, int64_t bytes);
  ~CacheFile();  // what was not committed is gone
  CacheFile(const CacheFile&) = delete;
  CacheFile& operator=(const CacheFile&) = delete;

  const std::string& path() const { return path_; }
  const std::byte* data() const { return base_ + kHeader; }  // of a new file: zeros where nothing was written yet
  int64_t bytes() const { return bytes_; }
  // Whether the header tells of these parts.
  bool holds(uint32_t parts, const Digest& content) const { return parts == parts_ && content == content_; }

  // The next bytes of a new file, in order.
  Status write(std::span<const std::byte> bytes);
  // To the disk, header last, then under its name: a file that was there is replaced at once.
  Status commit(uint32_t parts, const Digest& content);

  static constexpr int64_t kHeader = 4096;

 private:
  CacheFile(std::string path, int fd, const Key& key, int64_t bytes);
  Status map();
  Status put(std::span<const std::byte> bytes, int64_t at);
  Status flush(std::size_t count);

  std::string path_, temporary_;  // temporary_: its name for the time being, where the file system wants one
  int fd_ = -1;
  Key key_;
  int64_t bytes_ = 0;
  uint32_t parts_ = 0;
  Digest content_{};
  const std::byte* base_ = nullptr;
  std::vector<std::byte> pending_;  // written, not yet handed to the system
  int64_t position_ = 0;            // of pending_ in the file
};

// Removes the file at `path`; false: there was none.
Result<bool> remove_cache_file(const std::string& path);

}  // namespace sonde
