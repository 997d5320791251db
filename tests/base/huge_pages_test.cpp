#include "base/huge_pages.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "base/trial.h"

namespace sonde {
namespace {

constexpr std::size_t kBytes = (std::size_t{50} << 20) + 12345;

// A file without a name, and a mapping of it.
class HugePages : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "sonde-huge-XXXXXX";
    fd_ = mkstemp(name.data());
    ASSERT_GE(fd_, 0);
    unlink(name.c_str());
    words_.resize(kBytes / 4 + 1);
    for (std::size_t i = 0; i < words_.size(); ++i) words_[i] = uint32_t(i) * 2654435761u;
    ASSERT_EQ(pwrite(fd_, words_.data(), kBytes, 0), ssize_t(kBytes));
    mapped_ = static_cast<std::byte*>(mmap(nullptr, kBytes, PROT_READ, MAP_SHARED, fd_, 0));
    ASSERT_NE(mapped_, MAP_FAILED);
  }
  void TearDown() override {
    munmap(mapped_, kBytes);
    close(fd_);
  }
  bool sound() const { return std::memcmp(mapped_, words_.data(), kBytes) == 0; }
  std::span<const std::byte> bytes() const { return {mapped_, kBytes}; }

  int fd_ = -1;
  std::vector<uint32_t> words_;
  std::byte* mapped_ = nullptr;
};

TEST_F(HugePages, ReadersSeeTheSameBytesAllAlong) {
  ThreadPool pool(2);
  HugePageMove move({bytes()});
  std::atomic<bool> done = false, all_sound = true;
  std::atomic<int> passes = 0;
  std::thread reader([&] {
    while (!done || passes == 0) {
      if (!sound()) all_sound = false;
      ++passes;
    }
  });
  while (move.next(pool)) {}
  done = true;
  reader.join();
  EXPECT_TRUE(all_sound);
  EXPECT_TRUE(sound());
  if (move.moved() == 0) GTEST_SKIP() << "the system gives no huge pages";
  // What was moved is no longer the file's: its beginning and end, outside whole pieces, still are.
  ASSERT_EQ(ftruncate(fd_, 0), 0);
  ASSERT_EQ(ftruncate(fd_, off_t(kBytes)), 0);
  int64_t own = 0;
  for (std::size_t i = 0; i < kBytes / 4; ++i) own += std::memcmp(mapped_ + 4 * i, &words_[i], 4) == 0;
  EXPECT_GE(4 * own, move.moved());
  EXPECT_LE(4 * own, move.moved() + 4);  // one word of the file is 0 itself
  EXPECT_FALSE(move.next(pool));
}

TEST_F(HugePages, PartsMoveAloneOrJoined) {
  const auto part = [&](std::size_t begin, std::size_t end) { return bytes().subspan(begin, end - begin); };
  constexpr std::size_t kMega = std::size_t{1} << 20;
  ThreadPool pool(2);
  // Joined over a small gap, in any order; not over a large one.
  HugePageMove move({part(9 * kMega + 100, 21 * kMega), {}, part(kMega + 5, 9 * kMega), part(30 * kMega, 37 * kMega),
                     part(12 * kMega, 13 * kMega), part(30 * kMega, 37 * kMega)});
  while (move.next(pool)) {}
  EXPECT_TRUE(sound());
  if (move.moved() == 0) GTEST_SKIP() << "the system gives no huge pages";
  const auto whole = [&](std::size_t begin, std::size_t end) {
    constexpr std::size_t kUnit = 2 * kMega;
    const auto base = reinterpret_cast<uintptr_t>(mapped_);
    return ((base + end) / kUnit - (base + begin + kUnit - 1) / kUnit) * kUnit;
  };
  EXPECT_EQ(std::size_t(move.moved()), whole(kMega + 5, 21 * kMega) + whole(30 * kMega, 37 * kMega));
}

rlim_t address_space() {  // of this process, bytes
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmSize:")) return std::stoull(line.substr(7)) << 10;
  return 0;
}

TEST_F(HugePages, LittleMemoryIsLeftAlone) {
  EXPECT_TRUE(survives([this] {
    const rlimit limit{address_space() + (rlim_t{1} << 30), RLIM_INFINITY};  // less than what shall stay free
    rlimit set{};
    if (setrlimit(RLIMIT_AS, &limit) != 0 || getrlimit(RLIMIT_AS, &set) != 0) return false;
    if (set.rlim_cur != limit.rlim_cur) return true;  // an emulator without this limit
    ThreadPool pool(1);
    HugePageMove move({bytes()});
    return !move.next(pool) && move.moved() == 0 && sound();
  }));
}

TEST_F(HugePages, LessThanAHugePageIsLeftAlone) {
  ThreadPool pool(2);
  HugePageMove small({bytes().first(std::size_t{1} << 20)}), none;
  EXPECT_FALSE(small.next(pool));
  EXPECT_FALSE(none.next(pool));
  EXPECT_EQ(small.moved(), 0);
}

}  // namespace
}  // namespace sonde
