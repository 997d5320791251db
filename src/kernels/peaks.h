// What this machine can do at best, measured: every speed is reported beside it.
#pragma once

#include "base/threads.h"

namespace sonde {

struct Peaks {
  double dram_read_gbs = 0;  // 10^9 bytes a second, all threads reading a buffer larger than the last cache: a tenth of the bursts exceed it
  double dram_mean_gbs = 0;  // the same over all bursts: what a longer piece of work gets, others' interruptions and all
  double fma_gflops = 0;     // 10^9 F32 operations a second, two a fused multiply-add, widest registers
  double int8_gops = 0;      // 10^9 operations a second of int8 dot products, two a multiply-add
  double bf16_gflops = 0;    // 10^9 operations a second of BF16 dot products; 0: the kernels in use have none
  double fork_join_us = 0;   // of the pool with nothing to do: how far apart its processors are; 0: one thread
};

// Takes about `seconds` in all, with all threads of the pool, half of it for memory.
Peaks measure_peaks(ThreadPool& pool, double seconds);

}  // namespace sonde
