// Finished pages by their content, so that requests with equal beginnings share them.
//
// A full page has two names, both SHA-256 chains from the first page on, begun with the request's salt:
//   tokens: the ids alone
//   bits:   the ids and, in each page, how many rows were computed in the prefill form (the others in the decode form).
// Equal `bits` mean equal floats. A prompt looks for pages that prefill alone wrote by their bits first: a hit is then
// the same to the last bit as a miss. After the last of those it goes on by `tokens`, to pages that an answer wrote.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/kv_pages.h"

namespace sonde {

struct PageKey {
  std::array<unsigned char, 32> tokens{}, bits{};
  bool operator==(const PageKey&) const = default;
};

// The key before the first page.
PageKey first_key(std::string_view salt);
// The key of a page of kPageTokens ids that follows `before`.
PageKey next_key(const PageKey& before, std::span<const int32_t> ids, int prefill_rows);

class PrefixCache {
 public:
  // Disabled: pages are shared by reference only, never found by content.
  PrefixCache(PagePool& pool, bool enabled) : pool_(pool), enabled_(enabled), pages_(pool.size()) {}

  bool enabled() const { return enabled_; }
  // Pages that allocate() can give now: free ones, and kept ones that nobody uses.
  int64_t available() const { return pool_.free() + static_cast<int64_t>(idle_.size()); }
  // A page with one reference; the kept page that was unused for longest gives way. kNoPage: all are in use.
  PageId allocate();
  void retain(PageId id);
  void release(PageId id);  // pages of a sequence: last one first, so that it gives way first

  // The kept page of equal bits; kNoPage: none.
  PageId same_bits(const PageKey& key) const { return look_up(key, /*exact=*/true); }
  // Keeps a full page under its key. Does nothing when the key is kept already, or the page under another one.
  void keep(PageId id, const PageKey& key);

  struct Hit {
    PageId page;
    PageKey key;
  };
  // The longest run of kept pages for the beginning of `ids`, at most `most` pages. Nothing is retained yet.
  // `prefill_rows`: rows in prefill form, as next_key() wants them, of page p. `exact`: by bits only.
  template <class F>
  std::vector<Hit> find(std::string_view salt, std::span<const int32_t> ids, int64_t most, bool exact,
                        F&& prefill_rows) const {
    std::vector<Hit> hits;
    PageKey key = first_key(salt);
    for (int64_t p = 0; enabled_ && p < most; ++p) {
      key = next_key(key, ids.subspan(static_cast<std::size_t>(p * kPageTokens), kPageTokens), prefill_rows(p));
      const PageId page = look_up(key, exact);
      if (page == kNoPage) break;
      key = pages_[page].key;
      hits.push_back({page, key});
    }
    return hits;
  }

 private:
  struct Hash {
    std::size_t operator()(const std::array<unsigned char, 32>& digest) const;
  };
  struct Page {
    bool kept = false, idle = false;
    PageKey key;
    std::list<PageId>::iterator place;  // in idle_
  };
  PageId look_up(const PageKey& key, bool exact) const;
  void forget(PageId id);

  PagePool& pool_;
  bool enabled_;
  std::vector<Page> pages_;
  std::list<PageId> idle_;  // kept pages without references; the longest unused first
  std::unordered_map<std::array<unsigned char, 32>, PageId, Hash> by_bits_, by_tokens_;
};

}  // namespace sonde
