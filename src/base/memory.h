// What memory there is, and aligned buffers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <vector>

namespace sonde {

// Bytes this process may use in all: the smallest of the machine's memory, the cgroup's limits (v1, v2, all parents) and RLIMIT_AS.
int64_t memory_limit();
// Bytes still free under that limit (page cache counts as free).
int64_t memory_available();
// Peak and present resident set of this process, bytes (VmHWM, VmRSS of /proc/self/status).
int64_t peak_resident();
int64_t resident();
// Of the present set, bytes: pages of this process alone, and of files that it has mapped.
struct ResidentParts {
  int64_t own = 0, files = 0;
};
ResidentParts resident_parts();
// Of these, pages of one file (/proc/self/smaps); `path` as it was opened.
int64_t resident_of_file(const std::string& path);

// Asks for huge pages for memory that is about to be touched; only ever a hint.
void prefer_huge_pages(void* memory, std::size_t bytes);

inline constexpr std::size_t kAlignment = 64;  // one cache line, one AVX-512 register
inline constexpr std::size_t kManyBytes = std::size_t{4} << 20;  // from here on a vector asks for huge pages

template <class T>
struct AlignedAllocator {
  using value_type = T;
  AlignedAllocator() = default;
  template <class U>
  AlignedAllocator(const AlignedAllocator<U>&) {}
  T* allocate(std::size_t n) {
    void* const memory = ::operator new(n * sizeof(T), std::align_val_t{kAlignment});
    if (n * sizeof(T) >= kManyBytes) prefer_huge_pages(memory, n * sizeof(T));
    return static_cast<T*>(memory);
  }
  void deallocate(T* p, std::size_t) { ::operator delete(p, std::align_val_t{kAlignment}); }
  template <class U>
  bool operator==(const AlignedAllocator<U>&) const { return true; }
};

template <class T>
using AlignedVector = std::vector<T, AlignedAllocator<T>>;

}  // namespace sonde
