#include "engine/kv_pages.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cassert>
#include <cerrno>
#include <cstring>
#include <limits>

#include "base/memory.h"

namespace sonde {

int64_t page_bytes(const KvLayout& layout) {
  const int64_t bytes = layout.page_bytes();
  return (bytes + static_cast<int64_t>(kAlignment) - 1) / static_cast<int64_t>(kAlignment) *
         static_cast<int64_t>(kAlignment);
}

Result<std::unique_ptr<PagePool>> PagePool::create(const KvLayout& layout, int64_t pages) {
  std::unique_ptr<PagePool> pool(new PagePool);
  const int64_t stride = page_bytes(layout);
  if (pages < 1 || pages > std::numeric_limits<PageId>::max() || stride < 1 ||
      pages > std::numeric_limits<int64_t>::max() / stride) {
    return Error{Code::kInvalid, "the cache cannot have so many pages", "engine", "", fmt::format("{}", pages), ""};
  }
  pool->stride_ = static_cast<std::size_t>(stride);
  pool->bytes_ = pool->stride_ * static_cast<std::size_t>(pages);
  void* base = mmap(nullptr, pool->bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) {
    return Error{Code::kTooLarge,
                 "memory for the cache cannot be reserved",
                 "engine",
                 fmt::format("{} bytes", pool->bytes_),
                 std::strerror(errno),
                 "ask for a smaller --context or fewer sequences at once"};
  }
  prefer_huge_pages(base, pool->bytes_);  // a page of tokens spans many of the system's
  pool->base_ = static_cast<std::byte*>(base);
  pool->references_.assign(static_cast<std::size_t>(pages), 0);
  pool->free_.reserve(static_cast<std::size_t>(pages));
  for (int64_t id = pages - 1; id >= 0; --id) pool->free_.push_back(static_cast<PageId>(id));
  return pool;
}

PagePool::~PagePool() {
  if (base_) munmap(base_, bytes_);
}

PageId PagePool::take() {
  if (free_.empty()) return kNoPage;
  const PageId id = free_.back();
  free_.pop_back();
  references_[id] = 1;
  return id;
}

bool PagePool::drop(PageId id) {
  assert(references_[id] > 0);
  return --references_[id] == 0;
}

void PagePool::give_back(PageId id) {
  assert(references_[id] == 0);
  free_.push_back(id);
}

void PagePool::copy(PageId from, PageId to) const { std::memcpy(data(to), data(from), stride_); }

}  // namespace sonde
