#include "base/memory.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/cgroup.h"

namespace sonde {
namespace {

// "Name:   123 kB" in bytes; 0 when absent.
int64_t kilobytes(const char* file, const std::string& name) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.compare(0, name.size(), name) == 0 && line.size() > name.size() && line[name.size()] == ':') {
      return int64_t(std::strtoll(line.c_str() + name.size() + 1, nullptr, 10)) * 1024;
    }
  }
  return 0;
}

int64_t address_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > rlim_t(kNoLimit)) {
    return kNoLimit;
  }
  return int64_t(limit.rlim_cur);
}

}  // namespace

int64_t memory_limit() {
  int64_t limit = kilobytes("/proc/meminfo", "MemTotal");
  if (limit == 0) limit = kNoLimit;
  for (const CgroupMemory& group : cgroup_memory("")) limit = std::min(limit, group.limit);
  return std::min(limit, address_limit());
}

int64_t memory_available() {
  int64_t free = kilobytes("/proc/meminfo", "MemAvailable");
  if (free == 0) free = kNoLimit;
  for (const CgroupMemory& group : cgroup_memory("")) free = std::min(free, group.limit - group.used);
  if (const int64_t limit = address_limit(); limit != kNoLimit) {
    free = std::min(free, limit - kilobytes("/proc/self/status", "VmSize"));
  }
  return std::max<int64_t>(0, free);
}

void prefer_huge_pages(void* memory, std::size_t bytes) {
  const auto address = reinterpret_cast<std::uintptr_t>(memory), page = std::uintptr_t(::sysconf(_SC_PAGESIZE));
  const std::uintptr_t first = (address + page - 1) / page * page, end = (address + bytes) / page * page;
  if (first < end) ::madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);
}

int64_t peak_resident() { return kilobytes("/proc/self/status", "VmHWM"); }
int64_t resident() { return kilobytes("/proc/self/status", "VmRSS"); }
ResidentParts resident_parts() {
  return {kilobytes("/proc/self/status", "RssAnon") + kilobytes("/proc/self/status", "RssShmem"),
          kilobytes("/proc/self/status", "RssFile")};
}

int64_t resident_of_file(const std::string& path) {
  std::error_code failed;
  const std::string name = std::filesystem::canonical(path, failed).string();
  int64_t bytes = 0;
  bool inside = false;
  std::ifstream in("/proc/self/smaps");
  for (std::string line; std::getline(in, line);) {
    // "7f00-7f10 r--p 0 fd:00 12  /a/file" opens a mapping, "Rss:   4 kB" is of it.
    if (const std::size_t first = line.find_first_of(" :"); first != std::string::npos && line[first] == ' ')
      inside = !name.empty() && line.ends_with(" " + name);
    else if (inside && line.starts_with("Rss:"))
      bytes += int64_t(std::strtoll(line.c_str() + 4, nullptr, 10)) * 1024;
  }
  return bytes;
}

}  // namespace sonde
