#include "engine/prefix_cache.h"

#include <openssl/sha.h>

#include <cstring>
#include <string>

namespace sonde {
namespace {

std::array<unsigned char, 32> sha256(std::string_view bytes) {
  std::array<unsigned char, 32> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data());
  return digest;
}

std::array<unsigned char, 32> chain(const std::array<unsigned char, 32>& before, std::span<const int32_t> ids,
                                    int form) {
  std::string text(reinterpret_cast<const char*>(before.data()), before.size());
  text.append(reinterpret_cast<const char*>(ids.data()), ids.size_bytes());
  text.push_back(static_cast<char>(form));
  return sha256(text);
}

}  // namespace

PageKey first_key(std::string_view salt) {
  PageKey key;
  key.tokens = key.bits = sha256(std::string("sonde pages 1\n").append(salt));
  return key;
}

PageKey next_key(const PageKey& before, std::span<const int32_t> ids, int prefill_rows) {
  return {chain(before.tokens, ids, 0), chain(before.bits, ids, prefill_rows)};
}

std::size_t PrefixCache::Hash::operator()(const std::array<unsigned char, 32>& digest) const {
  std::size_t value;
  std::memcpy(&value, digest.data(), sizeof value);
  return value;
}

PageId PrefixCache::allocate() {
  if (const PageId id = pool_.take(); id != kNoPage) return id;
  if (idle_.empty()) return kNoPage;
  const PageId oldest = idle_.front();
  forget(oldest);
  pool_.give_back(oldest);
  return pool_.take();
}

void PrefixCache::retain(PageId id) {
  pool_.retain(id);
  if (pages_[id].idle) {
    idle_.erase(pages_[id].place);
    pages_[id].idle = false;
  }
}

void PrefixCache::release(PageId id) {
  if (!pool_.drop(id)) return;
  if (!pages_[id].kept) return pool_.give_back(id);
  pages_[id].place = idle_.insert(idle_.end(), id);
  pages_[id].idle = true;
}

void PrefixCache::keep(PageId id, const PageKey& key) {
  if (!enabled_ || pages_[id].kept || by_bits_.contains(key.bits)) return;
  pages_[id].kept = true;
  pages_[id].key = key;
  by_bits_[key.bits] = id;
  by_tokens_.try_emplace(key.tokens, id);
}

PageId PrefixCache::look_up(const PageKey& key, bool exact) const {
  if (const auto it = by_bits_.find(key.bits); it != by_bits_.end()) return it->second;
  if (exact) return kNoPage;
  const auto it = by_tokens_.find(key.tokens);
  return it == by_tokens_.end() ? kNoPage : it->second;
}

void PrefixCache::forget(PageId id) {
  Page& page = pages_[id];
  by_bits_.erase(page.key.bits);
  if (const auto it = by_tokens_.find(page.key.tokens); it != by_tokens_.end() && it->second == id)
    by_tokens_.erase(it);
  if (page.idle) idle_.erase(page.place);
  page.kept = page.idle = false;
}

}  // namespace sonde
