#include "base/huge_pages.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <fstream>
#include <string>

#include "base/memory.h"

namespace sonde {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;  // other sizes are left alone
constexpr int64_t kPiece = 8 * kHugePage;        // about 4 ms
constexpr int64_t kReserve = int64_t{2} << 30;   // left free, or an eighth of what there is
constexpr int kPopulateRead = 22;                // MADV_POPULATE_READ, Linux 5.14

bool offered() {
  const std::string folder = "/sys/kernel/mm/transparent_hugepage/";
  std::string line;
  int64_t size = 0;
  std::ifstream(folder + "hpage_pmd_size") >> size;
  std::getline(std::ifstream(folder + "enabled"), line);
  return size == kHugePage && !line.empty() && line.find("[never]") == std::string::npos;
}

// PAGEMAP_SCAN of Linux 6.7 (linux/fs.h there). Before that no file system maps huge pages of a file on a disk.
struct Region {
  uint64_t start, end, categories;
};
struct PagemapScan {
  uint64_t size = sizeof(PagemapScan), flags = 0, start = 0, end = 0, walk_end = 0, regions = 0, region_count = 0,
           max_pages = 0, inverted = 0, mask = 0, any_of = 0, wanted = 0;
};
constexpr uint64_t kIsHuge = 1 << 6;

bool lies_in_huge_pages(const std::byte* bytes) {
  static const int pagemap = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  Region regions[kPiece / kHugePage];
  PagemapScan scan;
  scan.start = reinterpret_cast<uintptr_t>(bytes), scan.end = scan.start + kPiece;
  scan.regions = reinterpret_cast<uintptr_t>(regions), scan.region_count = std::size(regions);
  scan.mask = scan.wanted = kIsHuge;
  const int count = ::ioctl(pagemap, _IOWR('f', 16, PagemapScan), &scan);
  uint64_t huge = 0;
  for (int i = 0; i < count; ++i) huge += regions[i].end - regions[i].start;
  return huge == uint64_t(kPiece);
}

// Bytes moved; below 0: that cannot be done.
int64_t move_piece(const std::byte* bytes) {
  void* const there = const_cast<std::byte*>(bytes);
  ::madvise(there, kPiece, kPopulateRead);
  if (lies_in_huge_pages(bytes)) return 0;
  void* const room = ::mmap(nullptr, kPiece + kHugePage, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) return -1;
  const auto address = reinterpret_cast<uintptr_t>(room);
  const int64_t before = int64_t((kHugePage - address % kHugePage) % kHugePage);
  std::byte* const copy = static_cast<std::byte*>(room) + before;
  ::madvise(copy, kPiece, MADV_HUGEPAGE);
  std::memcpy(copy, bytes, kPiece);
  const bool moved = ::mprotect(copy, kPiece, PROT_READ) == 0 &&
                     ::mremap(copy, kPiece, kPiece, MREMAP_MAYMOVE | MREMAP_FIXED, there) != MAP_FAILED;
  if (!moved) ::munmap(copy, kPiece);
  if (before > 0) ::munmap(room, std::size_t(before));
  if (before < kHugePage) ::munmap(copy + kPiece, std::size_t(kHugePage - before));
  return moved ? kPiece : -1;
}

}  // namespace

HugePageMove::HugePageMove(std::span<const std::byte> bytes) {
  static const bool can = offered();
  const int64_t before = int64_t(-reinterpret_cast<uintptr_t>(bytes.data()) % kHugePage);
  const int64_t whole = (int64_t(bytes.size()) - before) / kPiece * kPiece;
  if (!can || whole <= 0) return;
  at_ = bytes.data() + before, end_ = at_ + whole;
}

bool HugePageMove::next(ThreadPool& pool) {
  if (at_ == end_) return false;
  // What is mapped counts as available, what is moved does not.
  const int64_t reserve = std::max(kReserve, memory_limit() / 8);
  const int64_t pieces = std::min<int64_t>(pool.size(), (end_ - at_) / kPiece);
  std::atomic<int64_t> moved = 0;
  std::atomic<bool> failed = memory_available() < end_ - at_ + reserve;
  if (!failed) {
    pool.share(pieces, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t bytes = move_piece(at_ + i * kPiece);
        bytes < 0 ? failed.store(true) : void(moved += bytes);
      }
    });
  }
  moved_ += moved;
  at_ = failed ? end_ : at_ + pieces * kPiece;
  return at_ != end_;
}

}  // namespace sonde
