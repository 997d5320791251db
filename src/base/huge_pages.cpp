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

constexpr std::size_t kPage = 4096;
constexpr std::size_t kHugePage = std::size_t{2} << 20;  // other sizes are left alone
constexpr std::size_t kPiece = 8 * kHugePage;            // about 4 ms
constexpr int64_t kReserve = int64_t{2} << 30;           // left free, or an eighth of what there is
constexpr int kPopulateRead = 22;                        // MADV_POPULATE_READ, Linux 5.14

// Bytes up to the next multiple of a huge page.
std::size_t to_unit(const void* p) { return -reinterpret_cast<uintptr_t>(p) % kHugePage; }

bool offered() {
  const std::string folder = "/sys/kernel/mm/transparent_hugepage/";
  std::string line;
  std::size_t size = 0;
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

bool lies_in_huge_pages(std::span<const std::byte> piece) {
  static const int pagemap = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  Region regions[kPiece / kHugePage];
  PagemapScan scan;
  scan.start = reinterpret_cast<uintptr_t>(piece.data()), scan.end = scan.start + piece.size();
  scan.regions = reinterpret_cast<uintptr_t>(regions), scan.region_count = std::size(regions);
  scan.mask = scan.wanted = kIsHuge;
  const int count = ::ioctl(pagemap, _IOWR('f', 16, PagemapScan), &scan);
  uint64_t huge = 0;
  for (int i = 0; i < count; ++i) huge += regions[i].end - regions[i].start;
  return huge == piece.size();
}

// Bytes moved; below 0: that cannot be done.
int64_t move_piece(std::span<const std::byte> piece) {
  void* const there = const_cast<std::byte*>(piece.data());
  const std::size_t bytes = piece.size();
  ::madvise(there, bytes, kPopulateRead);
  if (lies_in_huge_pages(piece)) return 0;
  void* const room = ::mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) return -1;
  const std::size_t before = to_unit(room);
  std::byte* const copy = static_cast<std::byte*>(room) + before;
  ::madvise(copy, bytes, MADV_HUGEPAGE);
  std::memcpy(copy, there, bytes);
  const bool moved = ::mprotect(copy, bytes, PROT_READ) == 0 &&
                     ::mremap(copy, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, there) != MAP_FAILED;
  if (!moved) ::munmap(copy, bytes);
  if (before > 0) ::munmap(room, before);
  ::munmap(copy + bytes, kHugePage - before);
  return moved ? int64_t(bytes) : -1;
}

}  // namespace

HugePageMove::HugePageMove(std::vector<std::span<const std::byte>> parts) {
  static const bool can = offered();
  if (!can) return;
  std::sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) { return a.data() < b.data(); });
  for (std::size_t i = 0; i < parts.size();) {
    const std::byte* at = parts[i].data();
    const std::byte* end = at;
    // A gap smaller than a page has no page of its own: what lies there is mapped.
    for (; i < parts.size() && parts[i].data() < end + kPage; ++i) end = std::max(end, parts[i].data() + parts[i].size());
    for (at += to_unit(at); end - at >= std::ptrdiff_t(kHugePage); at += pieces_.back().size()) {
      pieces_.emplace_back(at, std::min(kPiece, std::size_t(end - at) / kHugePage * kHugePage));
      left_ += int64_t(pieces_.back().size());
    }
  }
}

bool HugePageMove::next(ThreadPool& pool) {
  if (at_ == pieces_.size()) return false;
  // What is mapped counts as available, what is moved does not.
  const int64_t reserve = std::max(kReserve, memory_limit() / 8);
  const std::size_t count = std::min(std::size_t(pool.size()), pieces_.size() - at_);
  std::atomic<int64_t> moved = 0;
  std::atomic<bool> failed = memory_available() < left_ + reserve;
  if (!failed) {
    pool.share(int64_t(count), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t bytes = move_piece(pieces_[at_ + std::size_t(i)]);
        bytes < 0 ? failed.store(true) : void(moved += bytes);
      }
    });
  }
  moved_ += moved;
  for (std::size_t i = 0; i < count; ++i) left_ -= int64_t(pieces_[at_ + i].size());
  at_ = failed ? pieces_.size() : at_ + count;
  return at_ != pieces_.size();
}

}  // namespace sonde
