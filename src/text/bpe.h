// Byte-pair encoding over ids: a table of pieces, a table of merges, and the merging itself.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sonde {

uint64_t hash_bytes(std::string_view bytes);

// Pieces by id, and ids by bytes. Bytes lie in one buffer.
class PieceTable {
 public:
  void reserve(size_t pieces, size_t bytes);
  void set(int32_t id, std::string_view bytes);  // a later piece of the same id takes its place
  void index(int32_t id);                        // makes it findable; of equal pieces the first stays
  std::string_view piece(int32_t id) const;      // "" where there is none
  std::optional<int32_t> find(std::string_view bytes) const;
  int32_t size() const { return static_cast<int32_t>(spans_.size()); }

 private:
  void grow();
  struct Span {
    uint32_t start = 0, length = 0;
  };
  std::string bytes_;
  std::vector<Span> spans_;
  std::vector<int32_t> slots_;  // id or -1, open addressing
  size_t used_ = 0;
};

// What two neighbours become. Equal ranks: the leftmost first.
struct Merge {
  uint32_t rank;
  int32_t id;
};
inline constexpr uint32_t kNoRank = UINT32_MAX;

class MergeTable {
 public:
  void reserve(size_t merges);
  void set(int32_t left, int32_t right, Merge merge);  // a later entry for the same pair takes its place
  Merge find(int32_t left, int32_t right) const {
    if (slots_.empty()) return {kNoRank, -1};
    uint64_t key = key_of(left, right);
    for (size_t at = place(key);; at = (at + 1) & mask_) {
      const Slot& slot = slots_[at];
      if (slot.key == key) return slot.merge;
      if (slot.key == kFree) return {kNoRank, -1};
    }
  }
  size_t size() const { return used_; }

 private:
  struct Slot {
    uint64_t key;
    Merge merge;
  };
  static constexpr uint64_t kFree = UINT64_MAX;  // ids are never negative
  static uint64_t key_of(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  size_t place(uint64_t key) const { return (key * 0x9E3779B97F4A7C15u) >> shift_; }
  void resize(size_t slots);
  std::vector<Slot> slots_;
  size_t used_ = 0, mask_ = 0;
  int shift_ = 64;
};

// Merges symbols[0, count) in place, best rank first, leftmost among equals; returns how many are left.
// n^2 steps for short pieces, n log n for long ones.
size_t merge_symbols(const MergeTable& merges, int32_t* symbols, size_t count);

// Pieces already encoded. Bounded: emptied when full.
class PieceCache {
 public:
  static constexpr size_t kLongest = 64;  // bytes of a piece that is kept
  // The ids of a piece, or nothing (nullptr).
  const int32_t* find(std::string_view piece, uint64_t hash, size_t& count) const;
  void put(std::string_view piece, uint64_t hash, const int32_t* ids, size_t count);

 private:
  static constexpr size_t kSlots = 1 << 16, kFull = kSlots / 2;
  struct Slot {
    uint64_t hash = 0;
    uint32_t bytes = 0, ids = 0;  // where the piece and its ids start; long lists lie in ids_
    uint16_t length = 0, count = 0;
    int32_t inside[3] = {};  // up to three ids
  };
  std::vector<Slot> slots_;
  std::string bytes_;
  std::vector<int32_t> ids_;
  size_t used_ = 0;
};

}  // namespace sonde
