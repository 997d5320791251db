// The pages of the KV cache: one reserved range, committed by the system as pages are first written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "model/model.h"
#include "sonde/result.h"

namespace sonde {

using PageId = int32_t;
inline constexpr PageId kNoPage = -1;

class PagePool {
 public:
  static Result<std::unique_ptr<PagePool>> create(const KvLayout& layout, int64_t pages);
  ~PagePool();
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;

  std::byte* data(PageId id) const { return base_ + static_cast<std::size_t>(id) * stride_; }
  int64_t size() const { return static_cast<int64_t>(references_.size()); }
  int64_t free() const { return static_cast<int64_t>(free_.size()); }
  int references(PageId id) const { return references_[id]; }

  PageId take();  // a free page with one reference; kNoPage: none is free
  void retain(PageId id) { ++references_[id]; }
  bool drop(PageId id);       // one reference less; true when it was the last (the page is not free yet)
  void give_back(PageId id);  // a page without references becomes free
  void copy(PageId from, PageId to) const;

 private:
  PagePool() = default;
  std::byte* base_ = nullptr;
  std::size_t stride_ = 0, bytes_ = 0;
  std::vector<int> references_;
  std::vector<PageId> free_;  // the last one given back is taken first: its memory is committed already
};

// Bytes a page occupies.
int64_t page_bytes(const KvLayout& layout);
// Pages that hold `tokens`.
inline int64_t pages_for(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

}  // namespace sonde
