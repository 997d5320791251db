#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/cgroup.h"
#include "base/cpu.h"
#include "base/memory.h"

namespace sonde::test {
namespace {

// A made-up /proc and /sys/fs/cgroup under a temporary folder.
class Groups : public testing::Test {
 protected:
  void SetUp() override {
    const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
    root_ = testing::TempDir() + "sonde_groups_" + test->name();
    std::filesystem::remove_all(root_);
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  int64_t least_memory() {
    int64_t least = kNoLimit;
    for (const CgroupMemory& group : cgroup_memory(root_)) least = std::min(least, group.limit);
    return least;
  }
  std::string root_;
};

TEST_F(Groups, Version2WithParents) {
  write("/proc/self/cgroup", "0::/a/b\n");
  write("/proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
  write("/sys/fs/cgroup/a/b/memory.max", "max\n");
  write("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  write("/sys/fs/cgroup/a/memory.max", "4294967296\n");
  write("/sys/fs/cgroup/a/memory.current", "3000\n");
  write("/sys/fs/cgroup/a/memory.stat", "anon 1000\nfile 1900\nactive_file 1200\ninactive_file 700\n");
  write("/sys/fs/cgroup/a/cpu.max", "250000 100000\n");
  const auto groups = cgroup_memory(root_);
  ASSERT_EQ(groups.size(), 1u);
  ASSERT_EQ(groups[0].limit, int64_t{4} << 30);
  ASSERT_EQ(groups[0].used, 1100);  // without the page cache
  ASSERT_EQ(cgroup_processors(root_), 3);
}

TEST_F(Groups, Version1InAContainer) {
  write("/proc/self/cgroup", "9:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x\n");
  write("/proc/self/mountinfo",
        "41 30 0:36 /docker/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
        "42 30 0:37 /docker/x /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n");
  write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n");
  write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "5000\n");
  write("/sys/fs/cgroup/memory/memory.stat", "total_inactive_file 1000\ntotal_active_file 500\n");
  write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000\n");
  write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  const auto groups = cgroup_memory(root_);
  ASSERT_EQ(groups.size(), 1u);
  ASSERT_EQ(groups[0].limit, 1 << 30);
  ASSERT_EQ(groups[0].used, 3500);
  ASSERT_EQ(cgroup_processors(root_), 2);
}

TEST_F(Groups, ParentsAreTighterAndNoLimitMeansNone) {
  write("/proc/self/cgroup", "3:memory:/s/t\n2:cpu:/s/t\n");
  write("/proc/self/mountinfo",
        "41 30 0:36 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "42 30 0:37 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n");
  write("/sys/fs/cgroup/memory/s/t/memory.limit_in_bytes", "9223372036854771712\n");
  write("/sys/fs/cgroup/memory/s/memory.limit_in_bytes", "2000000000\n");
  write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  write("/sys/fs/cgroup/cpu/s/t/cpu.cfs_quota_us", "-1\n");
  write("/sys/fs/cgroup/cpu/s/t/cpu.cfs_period_us", "100000\n");
  ASSERT_EQ(least_memory(), 2000000000);
  ASSERT_EQ(cgroup_processors(root_), kNoLimit);
}

TEST_F(Groups, NothingThere) {
  ASSERT_TRUE(cgroup_memory(root_).empty());
  ASSERT_EQ(cgroup_processors(root_), kNoLimit);
  write("/proc/self/cgroup", "0::/../../etc\nnonsense\n");
  write("/proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\nnonsense\n");
  write("/sys/fs/cgroup/memory.max", "not a number\n");
  ASSERT_TRUE(cgroup_memory(root_).empty());
}

TEST(Memory, LimitsAreSensible) {
  const int64_t limit = memory_limit(), free = memory_available();
  ASSERT_GT(limit, int64_t{64} << 20);
  ASSERT_GT(free, 0);
  ASSERT_LE(free, limit);
  ASSERT_GT(resident(), int64_t{100} << 10);
  ASSERT_GE(peak_resident(), resident() / 2);
}

TEST(Memory, AlignedVectorsAre) {
  for (std::size_t n : {1, 3, 1000}) {
    const AlignedVector<float> v(n);
    ASSERT_EQ(reinterpret_cast<uintptr_t>(v.data()) % kAlignment, 0u);
  }
}

TEST(Cpu, NameAndFeatures) {
  ASSERT_FALSE(cpu_name().empty());
  const CpuFeatures& f = cpu_features();
  ASSERT_TRUE(!f.avx512 || f.avx2);  // whoever has the wider has the narrower
  ASSERT_TRUE(!f.avx512_vnni || f.avx512);
  ASSERT_TRUE(!f.neon_dotprod || f.neon);
#if defined(__x86_64__)
  ASSERT_EQ(f.avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
  ASSERT_EQ(f.avx512, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"));
#elif defined(__aarch64__)
  ASSERT_TRUE(f.neon);
#endif
}

}  // namespace
}  // namespace sonde::test
