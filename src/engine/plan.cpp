#include "engine/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "engine/draft_costs.h"
#include "engine/kv_pages.h"

namespace sonde {
namespace {

constexpr int64_t kFloat = sizeof(float);
constexpr int64_t kOwnUse = int64_t{16} << 20;          // program, stacks
constexpr int64_t kWordBytes = 320;                     // of the tokenizer, a token: 38 to 57 MiB for 128k to 151k
constexpr int64_t kExpandedFloats = int64_t{32} << 20;  // at most, see attention_mla.cpp

int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

}  // namespace

int64_t activation_bytes(const ModelConfig& c, const KvLayout& layout, const EngineOptions& options, int64_t context) {
  // Drafts are rows beside the answers' own; left to itself the engine drafts so many in all.
  const int64_t drafts = options.draft < 0 ? kMostDrafts : options.draft * options.max_batch;
  const int64_t answers = options.max_batch + drafts;
  const int64_t rows = round_up(options.prefill_chunk, kPageTokens) + answers;
  const int64_t head = c.is_mla() ? c.qk_nope_head_dim + c.qk_rope_head_dim + c.v_head_dim : 2 * c.head_dim;
  const int64_t latent = c.is_mla() ? c.num_attention_heads * (c.kv_lora_rank + c.qk_rope_head_dim) * answers * 2 : 0;
  const int64_t routed = c.num_experts_per_tok * std::max(c.moe_intermediate_size, c.hidden_size) +
                         c.n_shared_experts * c.moe_intermediate_size;
  // Of an MLP: gate and up, and on the fast path the rounded rows. Of a mixture: its experts' rows
  // (gathered, on the exact path), too.
  const int64_t feed_forward = std::max(c.intermediate_size * 5 / 2, 3 * routed);
  const int64_t per_row = 6 * c.hidden_size + feed_forward + 3 * c.num_attention_heads * head;
  int64_t floats = rows * per_row + latent + (7 * options.max_batch + drafts) * c.vocab_size;
  if (options.draft != 0 && layout.layers > c.num_hidden_layers) floats += 5 * rows * c.hidden_size;  // the MTP layer
  if (c.is_mla() && !options.reproducible) {
    floats += std::min(kExpandedFloats, context * c.num_attention_heads * head) + context * layout.record;
  } else if (c.is_mla()) {
    floats += rows * c.num_attention_heads * (2 * c.kv_lora_rank + c.qk_rope_head_dim);
  }
  return floats * kFloat + kOwnUse + c.vocab_size * kWordBytes;
}

Result<MemoryPlan> plan_memory(const PlanInput& in, const EngineOptions& options) {
  const int64_t own = in.config.max_position_embeddings > 0 ? in.config.max_position_embeddings : int64_t{1} << 20;
  if (options.context < 0 || options.kv_bytes < 0) {
    return Error{Code::kInvalid, "context and cache cannot be negative", "engine", "", "", ""};
  }
  if (options.context > own) {
    return Error{Code::kTooLarge,
                 "the context asked for is longer than the model's own",
                 "engine",
                 fmt::format("at most {} tokens", own),
                 fmt::format("{} tokens", options.context),
                 ""};
  }
  MemoryPlan plan;
  plan.page_bytes = page_bytes(in.layout);
  plan.kv_bytes_per_token = in.layout.token_bytes();
  plan.weight_bytes = in.weight_bytes;
  plan.owned_bytes = in.owned_bytes;
  plan.available = in.available;

  // `owned` is taken already; the files' pages count as free, but the weights want to stay.
  const auto free_with = [&](int64_t context) {
    return in.available - activation_bytes(in.config, in.layout, options, context);
  };
  const int64_t least = options.context > 0 ? options.context : std::min(own, kLeastContext);
  const int64_t least_bytes = pages_for(least) * plan.page_bytes;
  int64_t bytes = options.kv_bytes;
  if (bytes > 0) {
    if (bytes < least_bytes) {
      return Error{Code::kTooLarge,
                   fmt::format("a context of {} tokens does not fit the cache asked for", least),
                   "engine",
                   fmt::format("at least {} bytes", least_bytes),
                   fmt::format("{} bytes", bytes),
                   ""};
    }
  } else {
    if (least_bytes > free_with(least)) {
      return Error{Code::kTooLarge,
                   fmt::format("a context of {} tokens does not fit in memory", least),
                   "engine",
                   fmt::format("at most {} bytes", std::max<int64_t>(0, free_with(least))),
                   fmt::format("{} bytes", least_bytes),
                   "ask for a smaller --context"};
    }
    // Beside the weights if they fit, with a tenth left over for what else goes on.
    const int64_t beside = (free_with(own) - in.weight_bytes) / 10 * 9;
    const int64_t wanted = pages_for(options.context > 0 ? options.context : own) * plan.page_bytes *
                           static_cast<int64_t>(std::max(1, options.max_batch));
    bytes = std::max(least_bytes, std::min(wanted, beside));
  }
  plan.pages = std::min<int64_t>(bytes / plan.page_bytes, std::numeric_limits<int32_t>::max());
  plan.kv_bytes = plan.pages * plan.page_bytes;
  plan.context = options.context > 0 ? options.context : std::min(own, plan.pages * kPageTokens);
  plan.activation_bytes = activation_bytes(in.config, in.layout, options, plan.context);
  plan.fits = in.weight_bytes + plan.activation_bytes + least_bytes <= in.available;
  return plan;
}

Speed expected_speed(const Model::Work& per_token, const KvLayout& layout, int64_t depth, int batch,
                     const MachinePeaks& peaks) {
  Speed speed;
  if (peaks.bytes_per_second <= 0 || peaks.flops <= 0 || batch < 1) return speed;
  const double cache = static_cast<double>(layout.token_bytes()) * static_cast<double>(depth);
  const double reading = (static_cast<double>(per_token.bytes) + batch * cache) / peaks.bytes_per_second;
  const double computing = 2.0 * static_cast<double>(per_token.weights) * batch / peaks.flops;
  speed.memory_binds = reading >= computing;
  if (const double seconds = std::max(reading, computing); seconds > 0) speed.decode = batch / seconds;
  if (per_token.weights > 0) speed.prefill = peaks.flops / (2.0 * static_cast<double>(per_token.weights));
  return speed;
}

}  // namespace sonde
