#include "base/profile.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "base/threads.h"

namespace sonde::test {
namespace {

TEST(Profile, TimeOfAnInnerScopeIsItsOwn) {
  Profile profile;
  const int64_t start = Profile::now_ns();
  {
    const Profile::Scope outer(&profile, "outer");
    profile.work(10, 100, Profile::kF32);
    for (int i = 0; i < 3; ++i) {
      const Profile::Scope inner(&profile, "inner");
      profile.work(1, 7, Profile::kInt8);
      for (const int64_t begin = Profile::now_ns(); Profile::now_ns() - begin < 2000;) {
      }
    }
    profile.work(10, 0, Profile::kF32);
  }
  const int64_t all = Profile::now_ns() - start;
  ASSERT_EQ(profile.operations().size(), 3u);
  const Profile::Operation &outer = profile.operations()[1], &inner = profile.operations()[2];
  EXPECT_EQ(outer.name, "outer");
  EXPECT_EQ(outer.calls, 1);
  EXPECT_EQ(outer.bytes, 20);
  EXPECT_EQ(outer.operations[Profile::kF32], 100);
  EXPECT_EQ(outer.operations[Profile::kInt8], 0);
  EXPECT_EQ(inner.calls, 3);
  EXPECT_EQ(inner.bytes, 3);
  EXPECT_EQ(inner.all_operations(), 21);
  EXPECT_GE(inner.ns, 6000);
  EXPECT_GE(outer.ns, 0);
  EXPECT_LE(outer.ns + inner.ns, all);
  EXPECT_EQ(profile.operations()[0].ns, 0);
}

// Whichever thread is last, the others' waiting counts, as the mean over all of them.
TEST(Profile, EveryThreadsWaitingCounts) {
  for (const int threads : {2, 3}) {
    for (int slow = 0; slow < threads; ++slow) {
      ThreadPool pool(threads);
      Profile profile;
      pool.profile(&profile);
      std::atomic<int> done = 0;
      int64_t begin = 0, end = 0;
      {
        const Profile::Scope scope(&profile, "one is slow");
        pool.run([&](int thread) {
          if (thread != slow) return void(++done);
          while (done < threads - 1) std::this_thread::yield();
          begin = Profile::now_ns();
          std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the others have noted their ends by then
          end = Profile::now_ns();
        });
      }
      const int64_t waiting = profile.operations()[1].waiting_ns;
      EXPECT_GT(waiting, (end - begin) * (threads - 1) / threads / 2) << threads << ", " << slow;
      EXPECT_LE(waiting, profile.operations()[1].ns * (threads - 1) / threads);
    }
  }
}

TEST(Profile, WaitingGoesToTheOpenOperation) {
  ThreadPool pool(2);
  Profile profile;
  pool.profile(&profile);
  {
    const Profile::Scope scope(&profile, "slow worker");
    pool.run([](int thread) {
      if (thread == 0) return;
      for (const int64_t begin = Profile::now_ns(); Profile::now_ns() - begin < 100000;) {
      }
    });
  }
  pool.profile(nullptr);
  pool.run([](int) {});
  ASSERT_EQ(profile.operations().size(), 2u);
  EXPECT_EQ(profile.operations()[0].waiting_ns, 0);
  const Profile::Operation& slow = profile.operations()[1];
  EXPECT_GT(slow.waiting_ns, 0);
  EXPECT_LE(slow.waiting_ns, slow.ns);
}

TEST(Profile, WithoutOneNothingIsKept) {
  const Profile::Scope scope(nullptr, "nothing");
  EXPECT_EQ(ThreadPool(1).profile(), nullptr);
}

}  // namespace
}  // namespace sonde::test
