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
constexpr std::size_t kMostLeft = 4096;                  // pieces: each becomes up to eight of a process's 65,530 mappings
constexpr std::size_t kMostPieces = 8;                   // of a call
constexpr std::size_t kMostExamined = 64;                // of a call: some 30 us each
constexpr int kInVain = 16;                              // calls without a huge page, after which none are expected
constexpr int64_t kMemoryEvery = 8;                      // calls: reading what is free costs allocations
constexpr int kPopulateRead = 22;                        // MADV_POPULATE_READ, Linux 5.14
constexpr int kPageOut = 21;                             // MADV_PAGEOUT, Linux 5.4

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

using Piece = std::span<const std::byte>;

// The parts of a piece that lie in huge pages; everything where the system does not tell.
struct HugeParts {
  Region regions[kPiece / kHugePage];
  int count = 0;
  int64_t bytes = 0;

  explicit HugeParts(Piece piece) {
    static const int pagemap = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);  // a child would see its parent's
    PagemapScan scan;
    scan.start = reinterpret_cast<uintptr_t>(piece.data()), scan.end = scan.start + piece.size();
    scan.regions = reinterpret_cast<uintptr_t>(regions), scan.region_count = std::size(regions);
    scan.mask = scan.wanted = kIsHuge;
    count = ::ioctl(pagemap, _IOWR('f', 16, PagemapScan), &scan);
    if (count < 0) count = 1, regions[0] = {scan.start, scan.end, 0};
    for (int i = 0; i < count; ++i) bytes += int64_t(regions[i].end - regions[i].start);
  }
};

bool in_memory(Piece piece) {
  unsigned char pages[kPiece / kPage];
  if (::sysconf(_SC_PAGESIZE) != long(kPage)) return true;
  if (::mincore(const_cast<std::byte*>(piece.data()), piece.size(), pages) != 0) return false;
  const auto count = std::ptrdiff_t(piece.size() / kPage);
  return std::count_if(pages, pages + count, [](unsigned char page) { return (page & 1) != 0; }) >= count - count / 8;
}

// Puts `copy` into the place of `there`, which holds the same bytes.
bool replace(std::byte* there, std::byte* copy, std::size_t bytes) {
  if (::mprotect(copy, bytes, PROT_READ) == 0 &&
      ::mremap(copy, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, there) != MAP_FAILED)
    return true;
  // The system may have taken the old bytes away before it failed.
  if (::msync(there, bytes, MS_ASYNC) != 0 && errno == ENOMEM &&
      ::mmap(there, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED) {
    std::memcpy(there, copy, bytes);
    ::mprotect(there, bytes, PROT_READ);
  }
  return false;
}

struct Moved {
  std::atomic<int64_t> bytes = 0, huge = 0;  // moved; in huge pages now
};

// Moves what the system gives huge pages for. crowded: all of it, and what the file's pages took is free at once.
void move_piece(Piece piece, bool crowded, Moved& moved) {
  std::byte* const there = const_cast<std::byte*>(piece.data());
  const std::size_t bytes = piece.size();
  ::madvise(there, bytes, kPopulateRead);
  const std::size_t room = bytes + kHugePage;
  void* const place = ::mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) return;
  std::byte* const copy = static_cast<std::byte*>(place) + to_unit(place);
  prefer_huge_pages(copy, bytes);
  std::memcpy(copy, there, bytes);
  HugeParts parts({copy, bytes});
  moved.huge += parts.bytes;
  if (crowded) {
    ::madvise(there, bytes, kPageOut);
    parts.regions[0] = {reinterpret_cast<uintptr_t>(copy), reinterpret_cast<uintptr_t>(copy + bytes), 0}, parts.count = 1;
  }
  // What does not move is unmapped, and never a place that was left: another thread's mapping may be there by now.
  std::byte* rest = static_cast<std::byte*>(place);
  for (int i = 0; i < parts.count; ++i) {
    std::byte* const from = reinterpret_cast<std::byte*>(parts.regions[i].start);
    const std::size_t size = parts.regions[i].end - parts.regions[i].start;
    if (!replace(there + (from - copy), from, size)) continue;
    if (from > rest) ::munmap(rest, std::size_t(from - rest));
    rest = from + size, moved.bytes += int64_t(size);
  }
  std::byte* const end = static_cast<std::byte*>(place) + room;
  if (end > rest) ::munmap(rest, std::size_t(end - rest));
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
    for (at += to_unit(at); end - at >= std::ptrdiff_t(kHugePage) && pieces_.size() < kMostLeft;
         at += pieces_.back().size()) {
      pieces_.emplace_back(at, std::min(kPiece, std::size_t(end - at) / kHugePage * kHugePage));
      left_ += int64_t(pieces_.back().size());
    }
  }
}

bool HugePageMove::next(ThreadPool& pool) {
  if (pieces_.empty()) return false;
  // What is mapped counts as available, what is moved does not.
  if (calls_++ % kMemoryEvery == 0 && memory_available() < left_ + std::max(kReserve, memory_limit() / 8)) {
    pieces_.clear();
    return false;
  }
  now_.clear();
  const std::size_t most = std::min(std::size_t(pool.size()), kMostPieces);
  for (std::size_t seen = 0, all = std::min(pieces_.size(), kMostExamined); seen < all && now_.size() < most; ++seen) {
    if (at_ >= pieces_.size()) at_ = 0;
    if (in_memory(pieces_[at_])) {
      now_.push_back(pieces_[at_]), left_ -= int64_t(pieces_[at_].size());
      pieces_[at_] = pieces_.back(), pieces_.pop_back();
    } else {
      ++at_;
    }
  }
  if (now_.empty()) return false;
  Moved moved;
  pool.share(int64_t(now_.size()), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) move_piece(now_[std::size_t(i)], crowded_, moved);
  });
  moved_ += moved.bytes;
  if (moved.huge > 0) {
    in_vain_ = 0;
  } else if (!crowded_) {
    crowded_ = true;  // memory is full of files' pages, of which these shall go first
    for (const auto& piece : now_) pieces_.push_back(piece), left_ += int64_t(piece.size());
  } else if (++in_vain_ == kInVain) {
    pieces_.clear();
  }
  return !pieces_.empty();
}

}  // namespace sonde
