// The cache file of packed weights: the header's 120 bytes, then what lies behind its page. Tried as it is, and once
// more with the sum made right, since no mutation would find one.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "files/cache_file.h"

namespace {

// Places in the header; see cache_file.h.
constexpr std::size_t kLayout = 8, kParts = 12, kBytes = 16, kSource = 24, kContent = 56, kSum = 88, kEnd = 120;

void check(bool holds) {
  if (!holds) std::abort();
}

std::unique_ptr<sonde::CacheFile> find(const std::vector<char>& file, const sonde::CacheFile::Key& key) {
  static const int fd = memfd_create("cache", MFD_CLOEXEC);
  check(fd >= 0 && ftruncate(fd, 0) == 0);
  check(pwrite(fd, file.data(), file.size(), 0) == ssize_t(file.size()));
  return sonde::CacheFile::find("/proc/self/fd/" + std::to_string(fd), key);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::size_t head = std::min(size, kEnd), behind = size - head;
  // Without a whole header: a file shorter than its page.
  std::vector<char> file(head < kEnd ? head : std::size_t(sonde::CacheFile::kHeader) + behind);
  if (head > 0) std::memcpy(file.data(), data, head);
  if (behind > 0) std::memcpy(file.data() + sonde::CacheFile::kHeader, data + head, behind);

  sonde::CacheFile::Key key;
  sonde::Digest content{}, sum{};
  uint32_t parts = 0;
  int64_t bytes = 0;
  if (head == kEnd) {
    std::memcpy(&key.layout, data + kLayout, sizeof key.layout);
    std::memcpy(&parts, data + kParts, sizeof parts);
    std::memcpy(&bytes, data + kBytes, sizeof bytes);
    std::memcpy(key.source.data(), data + kSource, key.source.size());
    std::memcpy(content.data(), data + kContent, content.size());
    std::memcpy(sum.data(), data + kSum, sum.size());
  }
  for (const bool mended : {false, true}) {
    if (mended && head < kEnd) break;
    const sonde::Digest right = sonde::sha256({file.data(), std::min(file.size(), kSum)});
    if (mended) std::memcpy(file.data() + kSum, right.data(), right.size()), sum = right;
    const bool sound = head == kEnd && std::memcmp(data, "sondepk\n", kLayout) == 0 && sum == right && bytes > 0 &&
                       bytes == int64_t(behind);
    const auto found = find(file, key);
    check((found != nullptr) == sound);
    if (!found) continue;
    check(found->bytes() == bytes && found->holds(parts, content) && !found->holds(parts + 1, content));
    check(std::memcmp(found->data(), data + kEnd, behind) == 0);
    sonde::CacheFile::Key other = key;
    ++other.layout;
    check(find(file, other) == nullptr);
    other = key, other.source[31] ^= 1;
    check(find(file, other) == nullptr);
  }
  return 0;
}
