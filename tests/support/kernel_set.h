// Which instruction set a test of models runs on.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "kernels/kernels.h"

namespace sonde::test {

// A set while this lives, then the one before it; "": the one that the program starts with.
class KernelSet {
 public:
  explicit KernelSet(const std::string& name)
      : before_(kernel_set()), chosen_(name.empty() ? Status() : choose_kernel_set(name)) {}
  ~KernelSet() { EXPECT_TRUE(choose_kernel_set(before_).ok()); }
  KernelSet(const KernelSet&) = delete;
  KernelSet& operator=(const KernelSet&) = delete;
  // Fails where this processor lacks it.
  const Status& chosen() const { return chosen_; }

 private:
  std::string before_;
  Status chosen_;
};

// What other processors serve the fast path with: each multiplies prompts or pairs of BF16 in a way of its own. The
// portable set is left out: it takes nine times as long.
inline auto other_sets() { return testing::Values("avx2", "avx512_vnni", "avx512_bf16"); }
// A few checkpoints for those: weights of K-quants, dense and in a mixture with latent attention; bytes; BF16; F16; FP8.
inline auto few_checkpoints() {
  return testing::Values("gguf/qwen3-wide.Q6_K.gguf", "gguf/v2-lite-wide-joined.Q4_K_M.gguf",
                         "gguf/v2-lite-split.Q8_0.gguf", "models/qwen3-bf16", "gguf/qwen2.F16.gguf", "models/v3-fp8-ue8m0");
}

}  // namespace sonde::test

// Skips the test, and says so, where this processor lacks the set.
#define SONDE_NEEDS_SET(set) \
  if (!(set).chosen().ok()) GTEST_SKIP() << (set).chosen().error().message()
