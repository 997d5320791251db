#include "base/threads.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "base/cgroup.h"
#include "base/profile.h"

namespace sonde {
namespace {

static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t) && std::atomic<uint32_t>::is_always_lock_free);

void futex_wait(std::atomic<uint32_t>& word, uint32_t expected) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}
void futex_wake_all(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

constexpr int64_t kAwakeSpinNs = 5'000'000;  // a worker between two regions while an Awake lives
constexpr int64_t kJoinSpinNs = 1'000'000;   // the caller, for the last worker
constexpr int64_t kYieldAfterNs = 50'000;    // from here on the spinner offers its processor to others

// Spins until ready() or the bound; true when ready.
template <class Ready, class May>
bool spin(int64_t bound_ns, Ready&& ready, May&& may) {
  int64_t start = 0;
  while (may()) {
    for (int i = 0; i < 64; ++i) {
      if (ready()) return true;
      relax();
    }
    const int64_t now = Profile::now_ns();
    if (start == 0) start = now;
    if (now - start > bound_ns) break;
    if (now - start > kYieldAfterNs) sched_yield();
  }
  return ready();
}

// Turns by number: the one that is served, and the next to be given.
struct Turns {
  std::mutex mutex;
  std::condition_variable served;
  uint64_t next = 0, now = 0;
};
Turns& turns() {
  static Turns all;
  return all;
}
std::atomic<const void*> turn_of = nullptr;  // the state of the pool whose turn it is; null: nobody takes turns

}  // namespace

struct ThreadPool::State {
  // What a thread has left of its part: [begin, end), in one word.
  struct alignas(64) Part {
    std::atomic<uint64_t> word{0};
    int64_t finished = 0;  // when the thread had done its work in the last region, where that is timed

    static uint64_t of(int64_t begin, int64_t end) { return uint64_t(begin) << 32 | uint64_t(end); }
    static int64_t begin(uint64_t word) { return int64_t(word >> 32); }
    static int64_t end(uint64_t word) { return int64_t(word & UINT32_MAX); }
    static int64_t left(uint64_t word) { return end(word) - begin(word); }
  };

  // Each on its own cache line: workers spin on epoch while others count down remaining.
  alignas(64) std::atomic<uint32_t> epoch{0};
  alignas(64) std::atomic<uint32_t> remaining{0};
  alignas(64) std::atomic<int64_t> counter{0};
  alignas(64) std::atomic<int> sleepers{0};
  std::atomic<bool> caller_sleeps{false};
  std::atomic<int> awake{0};
  std::atomic<bool> stop{false};
  void (*f)(void*, int) = nullptr;  // written before epoch advances, read after
  void* context = nullptr;
  bool timed = false;
  std::vector<Part> parts;  // one a thread
  std::vector<std::thread> workers;

  explicit State(int threads) : parts(std::size_t(threads)) {}

  void work(int thread) {
    uint32_t seen = 0;
    for (;;) {
      const auto changed = [&] { return epoch.load(std::memory_order_acquire) != seen; };
      const auto may_spin = [&] {
        const void* const turn = turn_of.load(std::memory_order_relaxed);
        return awake.load(std::memory_order_relaxed) > 0 && (turn == nullptr || turn == this);
      };
      while (!spin(kAwakeSpinNs, changed, may_spin)) {
        sleepers.fetch_add(1);
        if (epoch.load() == seen) futex_wait(epoch, seen);
        sleepers.fetch_sub(1);
        if (changed()) break;
      }
      ++seen;
      if (stop.load(std::memory_order_relaxed)) return;
      f(context, thread);
      if (timed) parts[std::size_t(thread)].finished = Profile::now_ns();
      if (remaining.fetch_sub(1) == 1 && caller_sleeps.load()) futex_wake_all(remaining);
    }
  }

  void join() {
    const auto done = [&] { return remaining.load(std::memory_order_acquire) == 0; };
    if (spin(kJoinSpinNs, done, [] { return true; })) return;
    caller_sleeps.store(true);
    for (uint32_t left; (left = remaining.load()) != 0;) futex_wait(remaining, left);
    caller_sleeps.store(false);
  }

  void advance() {
    epoch.fetch_add(1);
    wake();
  }
  void wake() {
    if (sleepers.load() > 0) futex_wake_all(epoch);
  }
};

std::shared_ptr<ThreadPool> ThreadPool::shared(int threads) {
  static std::mutex mutex;
  static std::map<int, std::weak_ptr<ThreadPool>> pools;
  if (threads <= 0) threads = usable_processors();
  const std::lock_guard lock(mutex);
  std::weak_ptr<ThreadPool>& known = pools[threads];
  std::shared_ptr<ThreadPool> pool = known.lock();
  if (!pool) known = pool = std::make_shared<ThreadPool>(threads);
  return pool;
}

ThreadPool::ThreadPool(int threads) {
  if (threads <= 0) threads = usable_processors();
  state_ = std::make_unique<State>(threads);
  state_->workers.reserve(std::size_t(threads - 1));
  for (int t = 1; t < threads; ++t) state_->workers.emplace_back([s = state_.get(), t] { s->work(t); });
}

ThreadPool::~ThreadPool() {
  const void* mine = state_.get();
  turn_of.compare_exchange_strong(mine, nullptr);
  state_->stop.store(true);
  state_->advance();
  for (auto& worker : state_->workers) worker.join();
}

int ThreadPool::size() const { return int(state_->workers.size()) + 1; }

void ThreadPool::run_erased(void (*f)(void*, int), void* context) {
  State& s = *state_;
  if (s.workers.empty()) return f(context, 0);
  s.f = f, s.context = context, s.timed = profile_ != nullptr;
  s.remaining.store(uint32_t(s.workers.size()), std::memory_order_relaxed);
  s.advance();
  f(context, 0);
  if (s.timed) s.parts[0].finished = Profile::now_ns();
  s.join();
  if (!s.timed) return;
  int64_t waited = 0, last = 0;
  for (const State::Part& part : s.parts) last = std::max(last, part.finished);
  for (const State::Part& part : s.parts) waited += last - part.finished;
  profile_->waited(waited / size());
}

void ThreadPool::reset_counter() { state_->counter.store(0, std::memory_order_relaxed); }
int64_t ThreadPool::take(int64_t n, int64_t most, int64_t least, int64_t& end) {
  int64_t begin = state_->counter.load(std::memory_order_relaxed);
  do {
    const int64_t fair = (n - begin) / (2 * size());  // of what is left
    end = std::min(n, begin + std::max(least, std::min(most, fair)));
  } while (begin < n && !state_->counter.compare_exchange_weak(begin, end, std::memory_order_relaxed));
  return begin;
}

void ThreadPool::reset_parts(int64_t n) {
  using Part = State::Part;
  const int64_t threads = size();
  for (int64_t t = 0; t < threads; ++t)
    state_->parts[std::size_t(t)].word.store(Part::of(n * t / threads, n * (t + 1) / threads), std::memory_order_relaxed);
}
bool ThreadPool::take_of_parts(int thread, int64_t most, int64_t& begin, int64_t& end) {
  using Part = State::Part;
  std::atomic<uint64_t>& mine = state_->parts[std::size_t(thread)].word;
  for (;;) {
    uint64_t word = mine.load(std::memory_order_relaxed);
    while (Part::left(word) > 0) {
      begin = Part::begin(word), end = begin + std::clamp<int64_t>(Part::left(word) / 4, 1, most);
      if (mine.compare_exchange_weak(word, Part::of(end, Part::end(word)), std::memory_order_relaxed)) return true;
    }
    Part* richest = nullptr;
    uint64_t its = 0;
    for (Part& part : state_->parts) {
      const uint64_t now = part.word.load(std::memory_order_relaxed);
      if (Part::left(now) > Part::left(its)) richest = &part, its = now;
    }
    if (richest == nullptr) return false;
    const int64_t middle = Part::begin(its) + Part::left(its) / 2;  // its owner goes on in front of it
    if (richest->word.compare_exchange_strong(its, Part::of(Part::begin(its), middle), std::memory_order_relaxed))
      mine.store(Part::of(middle, Part::end(its)), std::memory_order_relaxed);
  }
}

ThreadPool::Awake::Awake(ThreadPool& pool) : pool_(pool) {
  pool_.state_->awake.fetch_add(1);
  pool_.state_->wake();
}
ThreadPool::Awake::~Awake() { pool_.state_->awake.fetch_sub(1); }

ThreadPool::Turn::Turn(ThreadPool& pool) {
  Turns& all = turns();
  std::unique_lock lock(all.mutex);
  all.served.wait(lock, [&all, mine = all.next++] { return all.now == mine; });
  const void* const before = turn_of.exchange(pool.state_.get());
  if (before != pool.state_.get()) pool.state_->wake();
}
ThreadPool::Turn::~Turn() {
  Turns& all = turns();
  const std::lock_guard lock(all.mutex);
  ++all.now;
  all.served.notify_all();
}

int usable_processors() {
  int by_affinity = 0;
  // The kernel refuses masks smaller than its own; machines may have more than CPU_SETSIZE processors.
  for (int bits = 1024; bits <= 1 << 16 && by_affinity == 0; bits *= 2) {
    cpu_set_t* set = CPU_ALLOC(bits);
    if (set == nullptr) break;
    if (sched_getaffinity(0, CPU_ALLOC_SIZE(bits), set) == 0) by_affinity = CPU_COUNT_S(CPU_ALLOC_SIZE(bits), set);
    CPU_FREE(set);
  }
  if (by_affinity == 0) by_affinity = int(std::thread::hardware_concurrency());
  const int64_t by_quota = cgroup_processors("");
  return int(std::max<int64_t>(1, std::min<int64_t>(std::max(1, by_affinity), by_quota)));
}

}  // namespace sonde
