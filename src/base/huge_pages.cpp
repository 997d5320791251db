#include "base/huge_pages.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
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
constexpr std::size_t kMostMappings = 16384;             // a piece each, of the 65,530 that a process may have
constexpr int64_t kMostPieces = 8;                       // of a call
constexpr std::size_t kMostExamined = 64;                // of a call: some 30 us each
constexpr int64_t kMemoryEvery = 8;                      // calls: reading what is free costs allocations
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

// PAGEMAP_SCAN of Linux 6.7 (linux/fs.h there).
struct Region {
  uint64_t start, end, categories;
};
struct PagemapScan {
  uint64_t size = sizeof(PagemapScan), flags = 0, start = 0, end = 0, walk_end = 0, regions = 0, region_count = 0,
           max_pages = 0, inverted = 0, mask = 0, any_of = 0, wanted = 0;
};
constexpr uint64_t kIsHuge = 1 << 6;

// Bytes of the piece that lie in huge pages; -1: the system does not tell.
int64_t in_huge_pages(std::span<const std::byte> piece) {
  static const int pagemap = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);  // a child would see its parent's
  Region regions[kPiece / kHugePage];
  PagemapScan scan;
  scan.start = reinterpret_cast<uintptr_t>(piece.data()), scan.end = scan.start + piece.size();
  scan.regions = reinterpret_cast<uintptr_t>(regions), scan.region_count = std::size(regions);
  scan.mask = scan.wanted = kIsHuge;
  const int count = ::ioctl(pagemap, _IOWR('f', 16, PagemapScan), &scan);
  if (count < 0) return -1;
  int64_t huge = 0;
  for (int i = 0; i < count; ++i) huge += int64_t(regions[i].end - regions[i].start);
  return huge;
}

bool in_memory(std::span<const std::byte> piece) {
  unsigned char pages[kPiece / kPage];
  if (::sysconf(_SC_PAGESIZE) != long(kPage)) return true;
  if (::mincore(const_cast<std::byte*>(piece.data()), piece.size(), pages) != 0) return false;
  const auto count = std::ptrdiff_t(piece.size() / kPage);
  return std::count_if(pages, pages + count, [](unsigned char page) { return (page & 1) != 0; }) >= count - count / 8;
}

// Bytes moved; below 0: that cannot be done.
int64_t move_piece(std::span<const std::byte> piece) {
  void* const there = const_cast<std::byte*>(piece.data());
  const std::size_t bytes = piece.size();
  ::madvise(there, bytes, kPopulateRead);
  if (in_huge_pages(piece) == int64_t(bytes)) return 0;
  void* const room = ::mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) return -1;
  const std::size_t before = to_unit(room);
  std::byte* const copy = static_cast<std::byte*>(room) + before;
  prefer_huge_pages(copy, bytes);
  std::memcpy(copy, there, bytes);
  const int64_t huge = in_huge_pages({copy, bytes});
  const bool gained = huge < 0 || huge >= int64_t(bytes / 2);  // else memory is in pieces
  const bool moved = gained && ::mprotect(copy, bytes, PROT_READ) == 0 &&
                     ::mremap(copy, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, there) != MAP_FAILED;
  if (!moved) {
    // The system may have taken the old bytes away before it failed.
    if (::msync(there, bytes, MS_ASYNC) != 0 && errno == ENOMEM &&
        ::mmap(there, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED) {
      std::memcpy(there, copy, bytes);
      ::mprotect(there, bytes, PROT_READ);
    }
    ::munmap(copy, bytes);
  }
  if (before > 0) ::munmap(room, before);
  ::munmap(copy + bytes, kHugePage - before);
  return moved ? int64_t(bytes) : -1;
}

}  // namespace

HugePageMove::HugePageMove(std::vector<std::span<const std::byte>> parts) {
  static const bool can = offered();
  if (!can) return;
  std::erase_if(parts, [](const auto& part) { return part.empty(); });
  std::sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) { return a.data() < b.data(); });
  for (std::size_t i = 0; i < parts.size();) {
    const std::byte* at = parts[i].data();
    const std::byte* end = at;
    // A gap smaller than a page has no page of its own: what lies there is mapped.
    for (; i < parts.size() && parts[i].data() < end + kPage; ++i) end = std::max(end, parts[i].data() + parts[i].size());
    for (at += to_unit(at); end - at >= std::ptrdiff_t(kHugePage) && pieces_.size() < kMostMappings;
         at += pieces_.back().size()) {
      pieces_.emplace_back(at, std::min(kPiece, std::size_t(end - at) / kHugePage * kHugePage));
      left_ += int64_t(pieces_.back().size());
    }
  }
}

bool HugePageMove::next(ThreadPool& pool) {
  if (pieces_.empty()) return false;
  // What is mapped counts as available, what is moved does not.
  std::atomic<bool> failed = calls_++ % kMemoryEvery == 0 &&
                             memory_available() < left_ + std::max(kReserve, memory_limit() / 8);
  now_.clear();
  const int64_t most = std::min<int64_t>(pool.size(), kMostPieces);
  for (std::size_t seen = 0, all = std::min(pieces_.size(), kMostExamined);
       !failed && seen < all && int64_t(now_.size()) < most; ++seen) {
    if (at_ >= pieces_.size()) at_ = 0;
    if (!in_memory(pieces_[at_])) {
      ++at_;
      continue;
    }
    now_.push_back(pieces_[at_]), left_ -= int64_t(pieces_[at_].size());
    pieces_[at_] = pieces_.back(), pieces_.pop_back();
  }
  std::atomic<int64_t> moved = 0;
  pool.share(int64_t(now_.size()), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t bytes = move_piece(now_[std::size_t(i)]);
      bytes < 0 ? failed.store(true) : void(moved += bytes);
    }
  });
  moved_ += moved;
  if (failed) pieces_.clear();
  return !failed && !now_.empty();
}

}  // namespace sonde
