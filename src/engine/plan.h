// What fits: context, cache and threads from what the process may use (its cgroup's limits, not the machine's), and
// what speed to expect.
#pragma once

#include <cstdint>

#include "model/config.h"
#include "model/model.h"
#include "sonde/engine.h"

namespace sonde {

struct PlanInput {
  ModelConfig config;
  KvLayout layout;
  int64_t weight_bytes = 0;  // of the files: mapped, and wanted in memory
  int64_t owned_bytes = 0;   // of the model beside them
  int64_t available = 0;     // bytes that may still be taken, those of mapped files included
};

struct MemoryPlan {
  int64_t context = 0;  // tokens a sequence may hold
  int64_t pages = 0, page_bytes = 0;
  int64_t weight_bytes = 0, owned_bytes = 0, activation_bytes = 0, kv_bytes = 0;
  int64_t kv_bytes_per_token = 0;
  int64_t available = 0;
  bool fits = true;  // false: the weights will be read from disk again and again
  int64_t total() const { return weight_bytes + owned_bytes + activation_bytes + kv_bytes; }
};

// The least that is planned for when nothing is asked for: a context of so many tokens, or the model's own if that is
// less.
inline constexpr int64_t kLeastContext = 512;

// Fills in context and kv_bytes where `options` leaves them open. Errors (kTooLarge, with both numbers) where what is
// asked for, or the least, does not fit.
Result<MemoryPlan> plan_memory(const PlanInput& input, const EngineOptions& options);

// Scratch of one step: rows of the prefill chunk and the batch, latent attention's expanded keys and values, logits.
int64_t activation_bytes(const ModelConfig& config, const KvLayout& layout, const EngineOptions& options,
                         int64_t context);

struct MachinePeaks {
  double bytes_per_second = 0;  // reading memory
  double flops = 0;             // F32 fused multiply-adds count two
};
struct Speed {
  double decode = 0, prefill = 0;  // tokens per second, all sequences together, at best
  bool memory_binds = false;       // decode: memory, else arithmetic
};
// Decode of `batch` sequences whose caches hold `depth` tokens each, and prefill of long prompts.
Speed expected_speed(const Model::Work& per_token, const KvLayout& layout, int64_t depth, int batch,
                     const MachinePeaks& peaks);

}  // namespace sonde
