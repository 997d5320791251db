// Moves a mapped file's bytes into huge pages of private memory while they are in use. Mapped in pages of 4 KiB they cost
// a quarter of what memory can deliver; and where the file system maps huge pages itself, still a good part of it
// (measured on Linux 6.18 with ext4).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/threads.h"

namespace sonde {

class HugePageMove {
 public:
  HugePageMove() = default;
  // Parts of mappings that nobody writes, gives advice on or unmaps until the last call has returned. Whole huge pages
  // of them are moved; parts that follow one another closely count as one.
  explicit HugePageMove(std::vector<std::span<const std::byte>> parts);

  // The next pieces that are in memory, some milliseconds: from then on private memory at the same addresses; whoever
  // reads meanwhile reads the same bytes. What would come from the disk waits for a later call. The file's pages stay in
  // the system's cache for the next start, unless memory is so full of files that there are no huge pages otherwise.
  // False: nothing was found to do, now or ever (no huge pages, or memory would become short).
  bool next(ThreadPool& pool);
  // Bytes that were moved (tests).
  int64_t moved() const { return moved_; }

 private:
  std::vector<std::span<const std::byte>> pieces_, now_;  // those left, in no order; of a call
  std::size_t at_ = 0;
  int64_t left_ = 0, moved_ = 0;  // bytes
  int64_t calls_ = 0;
  bool crowded_ = false;  // there were no huge pages: what is moved leaves the system's file cache from then on
  int in_vain_ = 0;       // calls
};

}  // namespace sonde
