#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <queue>

namespace sonde {
namespace {

uint64_t load(const char* at, size_t length) {
  uint64_t word = 0;
  std::memcpy(&word, at, length);
  return word;
}

__extension__ using Wide = unsigned __int128;

uint64_t mix(uint64_t a, uint64_t b) {
  Wide wide = static_cast<Wide>(a) * b;
  return static_cast<uint64_t>(wide) ^ static_cast<uint64_t>(wide >> 64);
}

}  // namespace

uint64_t hash_bytes(std::string_view bytes) {
  constexpr uint64_t kA = 0x9E3779B97F4A7C15u, kB = 0xD6E8FEB86659FD93u;
  uint64_t state = bytes.size() * kA;
  const char* at = bytes.data();
  size_t left = bytes.size();
  for (; left > 16; at += 16, left -= 16) state = mix(load(at, 8) ^ kA ^ state, load(at + 8, 8) ^ kB);
  uint64_t a = left >= 8 ? load(at, 8) : load(at, left);
  uint64_t b = left > 8 ? load(at + left - 8, 8) : 0;
  return mix(mix(a ^ kA ^ state, b ^ kB), kA);
}

void PieceTable::reserve(size_t pieces, size_t bytes) {
  bytes_.reserve(bytes);
  spans_.reserve(pieces);
  slots_.assign(std::bit_ceil(pieces * 2 + 16), -1);
}

void PieceTable::set(int32_t id, std::string_view bytes) {
  if (static_cast<size_t>(id) >= spans_.size()) spans_.resize(static_cast<size_t>(id) + 1);
  spans_[static_cast<size_t>(id)] = {static_cast<uint32_t>(bytes_.size()), static_cast<uint32_t>(bytes.size())};
  bytes_.append(bytes);
}

void PieceTable::index(int32_t id) {
  if ((used_ + 1) * 2 > slots_.size()) grow();
  std::string_view bytes = piece(id);
  size_t mask = slots_.size() - 1;
  size_t at = hash_bytes(bytes) & mask;
  for (; slots_[at] >= 0; at = (at + 1) & mask) {
    if (piece(slots_[at]) == bytes) return;
  }
  slots_[at] = id;
  ++used_;
}

void PieceTable::grow() {
  std::vector<int32_t> old = std::move(slots_);
  slots_.assign(std::max<size_t>(64, old.size() * 2), -1);
  used_ = 0;
  for (int32_t id : old) {
    if (id >= 0) index(id);
  }
}

std::string_view PieceTable::piece(int32_t id) const {
  if (id < 0 || id >= size()) return {};
  const Span& span = spans_[static_cast<size_t>(id)];
  return std::string_view(bytes_).substr(span.start, span.length);
}

std::optional<int32_t> PieceTable::find(std::string_view bytes) const {
  if (slots_.empty()) return std::nullopt;
  size_t mask = slots_.size() - 1;
  for (size_t at = hash_bytes(bytes) & mask; slots_[at] >= 0; at = (at + 1) & mask) {
    if (piece(slots_[at]) == bytes) return slots_[at];
  }
  return std::nullopt;
}

void MergeTable::reserve(size_t merges) { resize(std::bit_ceil(merges * 2 + 16)); }

void MergeTable::resize(size_t slots) {
  std::vector<Slot> old = std::move(slots_);
  slots_.assign(slots, {kFree, {kNoRank, -1}});
  mask_ = slots - 1;
  shift_ = 64 - std::countr_zero(slots);
  used_ = 0;
  for (const Slot& slot : old) {
    if (slot.key != kFree) set(static_cast<int32_t>(slot.key >> 32), static_cast<int32_t>(slot.key), slot.merge);
  }
}

void MergeTable::set(int32_t left, int32_t right, Merge merge) {
  if ((used_ + 1) * 2 > slots_.size()) resize(std::max<size_t>(64, slots_.size() * 2));
  uint64_t key = key_of(left, right);
  size_t at = place(key);
  while (slots_[at].key != kFree && slots_[at].key != key) at = (at + 1) & mask_;
  if (slots_[at].key == kFree) ++used_;
  slots_[at] = {key, merge};
}

namespace {

constexpr size_t kShort = 48;  // symbols up to which looking for the best pair anew each time is fastest

size_t merge_short(const MergeTable& merges, int32_t* symbols, size_t count) {
  Merge pairs[kShort];
  for (size_t i = 0; i + 1 < count; ++i) pairs[i] = merges.find(symbols[i], symbols[i + 1]);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i) {
      if (pairs[i].rank < pairs[best].rank) best = i;
    }
    if (pairs[best].rank == kNoRank) break;
    symbols[best] = pairs[best].id;
    std::copy(symbols + best + 2, symbols + count, symbols + best + 1);
    --count;
    if (best + 1 < count) {
      std::copy(pairs + best + 2, pairs + count, pairs + best + 1);
      pairs[best] = merges.find(symbols[best], symbols[best + 1]);
    }
    if (best > 0) pairs[best - 1] = merges.find(symbols[best - 1], symbols[best]);
  }
  return count;
}

size_t merge_long(const MergeTable& merges, int32_t* symbols, size_t count) {
  struct Candidate {
    uint32_t rank;
    size_t at;
    int32_t left, right, id;
    bool operator<(const Candidate& other) const {  // the queue gives the largest: reversed
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  constexpr size_t kEnd = SIZE_MAX;
  std::vector<size_t> next(count), previous(count);
  std::vector<Candidate> first;
  auto candidate = [&](size_t at, size_t after) -> std::optional<Candidate> {
    Merge merge = merges.find(symbols[at], symbols[after]);
    if (merge.rank == kNoRank) return std::nullopt;
    return Candidate{merge.rank, at, symbols[at], symbols[after], merge.id};
  };
  for (size_t i = 0; i < count; ++i) {
    next[i] = i + 1 < count ? i + 1 : kEnd;
    previous[i] = i > 0 ? i - 1 : kEnd;
    if (i + 1 < count) {
      if (auto pair = candidate(i, i + 1)) first.push_back(*pair);
    }
  }
  std::priority_queue<Candidate> queue(std::less<Candidate>(), std::move(first));
  while (!queue.empty()) {
    Candidate top = queue.top();
    queue.pop();
    size_t at = top.at, after = next[at];
    // Stale where either symbol has changed since; a symbol taken up by its neighbour is -1.
    if (symbols[at] != top.left || after == kEnd || symbols[after] != top.right) continue;
    symbols[at] = top.id;
    symbols[after] = -1;
    next[at] = next[after];
    if (next[at] != kEnd) {
      previous[next[at]] = at;
      if (auto pair = candidate(at, next[at])) queue.push(*pair);
    }
    if (previous[at] != kEnd) {
      if (auto pair = candidate(previous[at], at)) queue.push(*pair);
    }
  }
  size_t kept = 0;
  for (size_t at = 0; at != kEnd; at = next[at]) symbols[kept++] = symbols[at];
  return kept;
}

}  // namespace

size_t merge_symbols(const MergeTable& merges, int32_t* symbols, size_t count) {
  if (count < 2) return count;
  return count <= kShort ? merge_short(merges, symbols, count) : merge_long(merges, symbols, count);
}

const int32_t* PieceCache::find(std::string_view piece, uint64_t hash, size_t& count) const {
  if (slots_.empty()) return nullptr;
  for (size_t at = hash & (kSlots - 1); slots_[at].length > 0; at = (at + 1) & (kSlots - 1)) {
    const Slot& slot = slots_[at];
    if (slot.hash != hash || std::string_view(bytes_).substr(slot.bytes, slot.length) != piece) continue;
    count = slot.count;
    return slot.count <= std::size(slot.inside) ? slot.inside : ids_.data() + slot.ids;
  }
  return nullptr;
}

void PieceCache::put(std::string_view piece, uint64_t hash, const int32_t* ids, size_t count) {
  if (piece.empty() || piece.size() > kLongest) return;
  if (slots_.empty() || used_ == kFull) {
    slots_.assign(kSlots, Slot{});
    bytes_.clear();
    ids_.clear();
    used_ = 0;
  }
  size_t at = hash & (kSlots - 1);
  while (slots_[at].length > 0) at = (at + 1) & (kSlots - 1);
  Slot& slot = slots_[at];
  slot.hash = hash;
  slot.bytes = static_cast<uint32_t>(bytes_.size());
  slot.ids = static_cast<uint32_t>(ids_.size());
  slot.length = static_cast<uint16_t>(piece.size());
  slot.count = static_cast<uint16_t>(count);
  bytes_.append(piece);
  if (count <= std::size(slot.inside)) {
    std::copy(ids, ids + count, slot.inside);
  } else {
    ids_.insert(ids_.end(), ids, ids + count);
  }
  ++used_;
}

}  // namespace sonde
