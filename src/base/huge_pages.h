// Moves a mapped file's bytes into huge pages while they are in use. File systems that map pages of 4 KiB only (ext4
// before Linux 6.16, and files that came into the cache in small pieces) cost a quarter of what memory can deliver.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/threads.h"

namespace sonde {

class HugePageMove {
 public:
  HugePageMove() = default;
  // `bytes`: a mapping that nobody writes, advises or unmaps until the last call has returned.
  explicit HugePageMove(std::span<const std::byte> bytes);

  // The next pieces, one for each thread: from then on private memory at the same addresses; whoever reads meanwhile
  // reads the same bytes. False: nothing is left to do, or the system has no huge pages, or memory would become short.
  bool next(ThreadPool& pool);
  // Bytes that were moved; what lay in huge pages already is not counted.
  int64_t moved() const { return moved_; }

 private:
  const std::byte* at_ = nullptr;
  const std::byte* end_ = nullptr;
  int64_t moved_ = 0;
};

}  // namespace sonde
