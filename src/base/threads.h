// The pool of compute threads. It spins while an Awake guard lives (through a token), else it sleeps. Engines of one process
// share it and take turns.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace sonde {

class Profile;

class ThreadPool {
 public:
  // `threads` counts the calling thread; 1 means no workers. 0: as many as the process may use (affinity and cgroup).
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // The process's pool of so many threads, made where none is in use. Whoever runs something on it holds a Turn.
  static std::shared_ptr<ThreadPool> shared(int threads = 0);

  int size() const;

  // What is told how long threads wait for the last one, and where users of the pool note what they do; null: nobody.
  Profile* profile() const { return profile_; }
  void profile(Profile* to) { profile_ = to; }

  // Calls f(thread) once for every thread in [0, size()); returns when all have finished. f must not throw.
  // One caller at a time; not reentrant.
  template <class F>
  void run(F&& f) {
    using Fn = std::remove_reference_t<F>;
    run_erased([](void* context, int thread) { (*static_cast<Fn*>(context))(thread); },
               const_cast<void*>(static_cast<const void*>(&f)));
  }

  // Splits [0, n) into contiguous ranges, one a thread, their bounds multiples of `grain`; calls f(begin, end, thread).
  template <class F>
  void split(int64_t n, int64_t grain, F&& f) {
    if (n <= 0) return;
    const int64_t blocks = (n + grain - 1) / grain, threads = size();
    if (threads == 1 || blocks == 1) return f(int64_t{0}, n, 0);
    run([&](int thread) {
      const int64_t begin = blocks * thread / threads * grain, end = blocks * (thread + 1) / threads * grain;
      if (begin < end) f(begin, std::min(end, n), thread);
    });
  }

  // Hands out [0, n) in pieces to whichever thread is free; calls f(begin, end, thread) for each piece: `most` at once,
  // towards the end fewer, down to `least`, so that all end together. For work of unequal size. Which thread does which
  // piece varies: f's results must not depend on it.
  template <class F>
  void share(int64_t n, int64_t most, int64_t least, F&& f) {
    if (n <= 0) return;
    if (size() == 1 || n <= least) return f(int64_t{0}, n, 0);
    reset_counter();
    run([&](int thread) {
      for (int64_t begin, end; (begin = take(n, most, least, end)) < n;) f(begin, end, thread);
    });
  }
  template <class F>
  void share(int64_t n, int64_t grain, F&& f) {
    share(n, grain, grain, f);
  }

  // As share, but each thread goes through a part of its own from the front, so that it reads one run of memory; who has
  // none left takes the back half of the most that another has. `most` at once, less towards the end; n < 2^32.
  template <class F>
  void share_parts(int64_t n, int64_t most, F&& f) {
    if (n <= 0) return;
    if (size() == 1 || n == 1) return f(int64_t{0}, n, 0);
    reset_parts(n);
    run([&](int thread) {
      for (int64_t begin, end; take_of_parts(thread, most, begin, end);) f(begin, end, thread);
    });
  }

  // While one lives, workers spin between two regions (0.2 us a fork-join); without any they sleep (40 us to wake).
  class Awake {
   public:
    explicit Awake(ThreadPool& pool);
    ~Awake();
    Awake(const Awake&) = delete;
    Awake& operator=(const Awake&) = delete;

   private:
    ThreadPool& pool_;
  };

  // The one use of processors at a time, of all pools: steps of several engines do not compete, and while one lives no
  // other pool's workers spin. Given in the order in which it was asked for.
  class Turn {
   public:
    explicit Turn(ThreadPool& pool);
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
  };

 private:
  void run_erased(void (*f)(void*, int), void* context);
  void reset_counter();
  int64_t take(int64_t n, int64_t most, int64_t least, int64_t& end);
  void reset_parts(int64_t n);
  bool take_of_parts(int thread, int64_t most, int64_t& begin, int64_t& end);

  struct State;
  std::unique_ptr<State> state_;
  Profile* profile_ = nullptr;
};

// Processors that this process may use: the smaller of its affinity mask and the cgroup's CPU quota (rounded up), at least 1.
int usable_processors();

}  // namespace sonde
