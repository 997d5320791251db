#include "base/threads.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace sonde::test {
namespace {

TEST(ThreadPool, RunsEveryThreadOnceAgainAndAgain) {
  for (int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.size(), threads);
    std::vector<int64_t> counts(std::size_t(threads), 0);  // plain: the pool orders the accesses
    for (int i = 0; i < 500; ++i) pool.run([&](int thread) { ++counts[std::size_t(thread)]; });
    for (int64_t n : counts) ASSERT_EQ(n, 500);
    const ThreadPool::Awake awake(pool);
    for (int i = 0; i < 500; ++i) pool.run([&](int thread) { ++counts[std::size_t(thread)]; });
    for (int64_t n : counts) ASSERT_EQ(n, 1000);
  }
}

TEST(ThreadPool, SplitAndShareCoverEveryItemOnce) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (int64_t n : {0, 1, 7, 64, 1000}) {
      for (int64_t grain : {1, 3, 64, 2000}) {
        std::vector<std::atomic<int>> seen(std::size_t(n + 1));
        std::atomic<int> misaligned{0};
        const auto mark = [&](int64_t begin, int64_t end, int) {
          if (begin % grain != 0 || end > n || (end != n && end % grain != 0)) ++misaligned;
          for (int64_t i = begin; i < end; ++i) ++seen[std::size_t(i)];
        };
        pool.split(n, grain, mark);
        pool.share(n, grain, mark);
        for (int64_t i = 0; i < n; ++i) ASSERT_EQ(seen[std::size_t(i)], 2) << n << " by " << grain;
        ASSERT_EQ(seen[std::size_t(n)], 0);
        ASSERT_EQ(misaligned, 0);
      }
    }
  }
}

TEST(ThreadPool, PartsCoverEveryItemOnce) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (int64_t n : {0, 1, 2, 7, 64, 1000}) {
      for (int64_t most : {1, 3, 64, 2000}) {
        std::vector<std::atomic<int>> seen(std::size_t(n + 1));
        pool.share_parts(n, most, [&](int64_t begin, int64_t end, int) {
          for (int64_t i = begin; i < end; ++i) ++seen[std::size_t(i)];
        });
        for (int64_t i = 0; i < n; ++i) ASSERT_EQ(seen[std::size_t(i)], 1) << n << " by " << most;
        ASSERT_EQ(seen[std::size_t(n)], 0);
      }
    }
  }
}

// A thread goes through its own half from the front; what the other, which waits, has left is taken from the back.
TEST(ThreadPool, WhoHasDoneItsPartTakesTheBackOfAnothers) {
  ThreadPool pool(2);
  constexpr int64_t kItems = 1000;
  std::atomic<int64_t> done{0};
  std::atomic<int> started{0};
  std::vector<int64_t> begins[2];
  pool.share_parts(kItems, 10, [&](int64_t begin, int64_t end, int thread) {
    ASSERT_LE(end - begin, 10);
    if (begins[thread].empty()) ++started;
    while (started < 2) std::this_thread::yield();
    begins[thread].push_back(begin);
    done += end - begin;
    // The first piece of thread 1 takes until thread 0 has done all that can be had.
    if (thread == 1 && begins[1].size() == 1) {
      while (done < kItems - 1) std::this_thread::yield();
    }
  });
  EXPECT_EQ(done, kItems);
  ASSERT_FALSE(begins[1].empty());
  EXPECT_EQ(begins[1].front(), kItems / 2);
  const auto taken = std::find_if(begins[0].begin(), begins[0].end(), [](int64_t begin) { return begin >= kItems / 2; });
  EXPECT_TRUE(std::is_sorted(begins[0].begin(), taken));
  ASSERT_NE(taken, begins[0].end());
  EXPECT_GE(*taken, kItems * 3 / 4 - 10) << "the back half of what is left";
}

TEST(ThreadPool, PiecesShrinkTowardsTheEnd) {
  ThreadPool pool(2);
  std::mutex mutex;
  std::vector<std::pair<int64_t, int64_t>> pieces;
  pool.share(1000, 100, 4, [&](int64_t begin, int64_t end, int) {
    const std::lock_guard lock(mutex);
    pieces.emplace_back(begin, end);
  });
  std::sort(pieces.begin(), pieces.end());
  int64_t done = 0, before = 100;
  for (const auto& [begin, end] : pieces) {
    EXPECT_EQ(begin, done);
    EXPECT_LE(end - begin, before);
    if (end < 1000) {
      EXPECT_GE(end - begin, 4);
    }
    before = end - begin, done = end;
  }
  EXPECT_EQ(done, 1000);
  EXPECT_EQ(pieces.front().second, 100);
  EXPECT_LE(before, 4);
}

TEST(ThreadPool, SleepsAndWakesAndWaitsForASlowWorker) {
  ThreadPool pool(2);
  int64_t sum = 0;
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(i % 4));
    int64_t parts[2] = {0, 0};
    pool.run([&](int thread) {
      if (thread == 1 && i % 5 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));  // past the caller's spin
      parts[thread] = 1;
    });
    sum += parts[0] + parts[1];
  }
  ASSERT_EQ(sum, 40);
}

TEST(ThreadPool, IdlePoolUsesNoTime) {
  ThreadPool pool(3);
  pool.run([](int) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const std::clock_t before = std::clock();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  ASSERT_LT(double(std::clock() - before) / CLOCKS_PER_SEC, 0.05);
}

TEST(ThreadPool, AwakeWorkersFallAsleepWhenNothingComes) {
  ThreadPool pool(2);
  const ThreadPool::Awake awake(pool);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // longer than a worker spins
  const std::clock_t before = std::clock();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  ASSERT_LT(double(std::clock() - before) / CLOCKS_PER_SEC, 0.05);
  int ran = 0;
  pool.run([&](int thread) {
    if (thread == 0) ++ran;
  });
  ASSERT_EQ(ran, 1);
}

TEST(ThreadPool, IsSharedByThoseWhoWantAsManyThreads) {
  const std::shared_ptr<ThreadPool> two = ThreadPool::shared(2);
  EXPECT_EQ(two->size(), 2);
  EXPECT_EQ(ThreadPool::shared(2), two);
  EXPECT_EQ(ThreadPool::shared(3)->size(), 3);
  EXPECT_EQ(ThreadPool::shared()->size(), usable_processors());
}

TEST(ThreadPool, TurnsAreOneAtATime) {
  ThreadPool two(2), three(3);
  std::atomic<int> inside{0};
  int64_t turns = 0;  // plain: turns order the accesses
  const auto take = [&](ThreadPool& pool) {
    const ThreadPool::Awake awake(pool);
    for (int i = 0; i < 300; ++i) {
      const ThreadPool::Turn turn(pool);
      EXPECT_EQ(inside++, 0);
      std::vector<int> ran(std::size_t(pool.size()), 0);
      pool.run([&](int thread) { ++ran[std::size_t(thread)]; });
      EXPECT_EQ(std::count(ran.begin(), ran.end(), 1), pool.size());
      ++turns;
      --inside;
    }
  };
  std::thread other([&] { take(three); });
  take(two);
  other.join();
  EXPECT_EQ(turns, 600);
}

// Of two pools that are awake only the one whose turn it is may spin.
TEST(ThreadPool, WhoseTurnItIsNotUsesNoTime) {
  ThreadPool working(1), waiting(3);
  const ThreadPool::Awake awake(waiting);
  const ThreadPool::Turn turn(working);
  double used = 0;
  for (int i = 0; i < 20; ++i) {
    waiting.run([](int) {});  // its workers are up, and would spin for some milliseconds
    const std::clock_t before = std::clock();
    std::this_thread::sleep_for(std::chrono::milliseconds(4));
    used += double(std::clock() - before) / CLOCKS_PER_SEC;
  }
  EXPECT_LT(used, 0.02) << "of 0.16 s that two of them would have spun";
}

TEST(Processors, AtLeastOneAndNoMoreThanTheMachine) {
  ASSERT_GE(usable_processors(), 1);
  ASSERT_LE(unsigned(usable_processors()), std::thread::hardware_concurrency());
}

}  // namespace
}  // namespace sonde::test
