#include "kernels/peaks.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "base/cpu.h"
#include "base/memory.h"
#include "kernels/kernels.h"
#include "kernels/table.h"

namespace sonde {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The best rate, in units of work a second, that `work` (returning what it did on all threads) reached within `seconds`.
template <class F>
double best_rate(double seconds, F&& work) {
  double best = 0;
  work();  // warms up clocks and pages
  const double end = now() + seconds;
  do {
    const double start = now(), done = work();
    best = std::max(best, done / (now() - start));
  } while (now() < end);
  return best;
}

// The sum of each thread's best rate in work that shares nothing. Threads do not wait for each other, so one that the
// system takes off its processor spoils only its own bursts; those count that start after all threads have and end in time.
template <class F>
double sum_of_best_rates(ThreadPool& pool, double seconds, F&& work) {
  std::atomic<int> started{0};
  std::vector<double> best(std::size_t(pool.size()));
  const double end = now() + seconds;
  pool.run([&](int thread) {
    work();
    ++started;
    double& mine = best[std::size_t(thread)];
    double start = now();
    do {
      const bool all = started == pool.size();
      const double done = work(), stop = now();
      if (all && (stop <= end || mine == 0)) mine = std::max(mine, done / (stop - start));
      start = stop;
    } while (start < end);
  });
  double sum = 0;
  for (double rate : best) sum += rate > 0 ? rate : *std::max_element(best.begin(), best.end());
  return sum;
}

// Peaks::dram_read_gbs and dram_mean_gbs.
void measure_memory(ThreadPool& pool, double seconds, Peaks& peaks) {
  const kernels::KernelTable& widest = kernels::table();
  const ThreadPool::Awake awake(pool);
  std::atomic<float> sink{0};  // keeps the results alive
  // Four times the last-level cache where there is room: a server's guests share one of some 500 MB. Each burst reads the next
  // 8 MiB, which takes a fraction of a millisecond. No more than 20 GB/s fill in the time given.
  const int64_t most = std::min(int64_t{2} << 30, std::max(int64_t{16} << 20, int64_t(20e9 * seconds)));
  const int64_t wanted = std::min(std::clamp(4 * last_level_cache(), int64_t{512} << 20, int64_t{2} << 30), most);
  const int64_t bytes = std::clamp<int64_t>(memory_available() / 8, int64_t{16} << 20, wanted);
  const int64_t floats = bytes / 4, part = std::min<int64_t>(floats, (8 << 20) / 4), parts = floats / part;
  const auto free = [&](float* p) { AlignedAllocator<float>().deallocate(p, std::size_t(floats)); };
  const std::unique_ptr<float, decltype(free)> buffer(AlignedAllocator<float>().allocate(std::size_t(floats)), free);
  pool.split(floats, 1 << 20, [&](int64_t begin, int64_t end, int) { std::fill_n(buffer.get() + begin, end - begin, 1.0f); });
  // The first time through the buffer the caches still write what filled it. The best of a thousand bursts found more of its
  // part in a cache than others do.
  std::vector<double> rates;
  double all = 0;
  const double until = now() + seconds;
  for (int64_t burst = 0; burst < 2 * parts || now() < until; ++burst) {
    const float* const data = buffer.get() + burst % parts * part;
    const double start = now();
    pool.split(part, 1024, [&](int64_t begin, int64_t end, int) { sink = widest.read_all(data + begin, end - begin); });
    const double took = now() - start;
    if (burst >= parts) rates.push_back(1e-9 * 4 * double(part) / took), all += took;
  }
  const auto tenth = rates.begin() + std::ptrdiff_t(rates.size() / 10);
  std::nth_element(rates.begin(), tenth, rates.end(), std::greater<>());
  peaks.dram_read_gbs = *tenth, peaks.dram_mean_gbs = 1e-9 * 4 * double(part) * double(rates.size()) / all;
}

}  // namespace

Peaks measure_peaks(ThreadPool& pool, double seconds) {
  const kernels::KernelTable& widest = kernels::table();
  const ThreadPool::Awake awake(pool);
  std::atomic<float> sink{0};
  Peaks peaks;
  measure_memory(pool, seconds * 0.5, peaks);
  if (pool.size() > 1) {
    constexpr int kRegions = 8;
    peaks.fork_join_us = 1e6 / best_rate(seconds * 0.02, [&] {
      for (int i = 0; i < kRegions; ++i) pool.run([](int) {});
      return double(kRegions);
    });
  }
  constexpr int64_t kRounds = 4'000;  // some ten microseconds: whatever else runs here seldom cuts in
  const auto burst = [&](int64_t (*run)(int64_t, float*)) {
    return sum_of_best_rates(pool, seconds * 0.25, [&] {
      float result = 1;
      const int64_t done = run(kRounds, &result);
      sink = result;
      return double(done);
    });
  };
  peaks.fma_gflops = 1e-9 * burst(widest.fma_burst);
  peaks.int8_gops = 1e-9 * burst(widest.int8_burst);
  if (widest.bf16_burst != nullptr) peaks.bf16_gflops = 1e-9 * burst(widest.bf16_burst);
  return peaks;
}

}  // namespace sonde
