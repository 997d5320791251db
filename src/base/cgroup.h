// The limits that a container or a service manager sets on this process: cgroup v1 and v2, with all parents.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sonde {

inline constexpr int64_t kNoLimit = INT64_MAX;

struct CgroupMemory {
  int64_t limit = kNoLimit;  // bytes
  int64_t used = 0;          // bytes, page cache that can be dropped not counted
};

// `root` stands before /proc and the mount points ("" for the real system; tests build a tree).
// One entry for every group that limits memory: this process's and its parents.
std::vector<CgroupMemory> cgroup_memory(const std::string& root);
// The smallest CPU quota over its period, rounded up to whole processors; kNoLimit without one.
int64_t cgroup_processors(const std::string& root);

}  // namespace sonde
