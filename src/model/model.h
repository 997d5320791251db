// A loaded model: one forward pass over rows of several sequences. start at transformer.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/memory.h"
#include "base/threads.h"
#include "files/checkpoint.h"
#include "kernels/kernels.h"
#include "model/config.h"
#include "sonde/result.h"
#include "tensor/types.h"

namespace sonde {

// Tokens of one page of the KV cache. Chunks that start on a page boundary give the same bits as one long prefill.
inline constexpr int64_t kPageTokens = 32;

// What a token leaves in the cache: `layers` records of `record` values (MLA: kv_lora_rank + qk_rope_head_dim; GQA: 2 *
// kv_heads * head_dim). A page is [layers][kPageTokens][record]; how records lie inside a layer is the attention's affair.
struct KvLayout {
  int64_t layers = 0;          // main layers, plus one for the MTP layer where it is loaded
  int64_t record = 0;          // values
  const Type* type = f32();    // of a value
  int64_t token_bytes() const { return layers * record * type->bytes; }
  int64_t page_bytes() const { return kPageTokens * token_bytes(); }
};
// How the exact and the fast path keep keys and values.
inline const Type* kv_type(bool exact) { return exact ? f32() : bf16(); }

enum class Logits { kNone, kLast, kAll };

// Consecutive tokens of one sequence in a batch.
struct SequenceChunk {
  std::span<const int32_t> tokens;  // ids below vocab_size
  int64_t start = 0;                // position of tokens[0]; positions before it are in the pages already
  std::span<std::byte* const> pages;  // page p holds positions [p * kPageTokens, ...); enough for start + tokens.size()
  bool absorbed = false;            // rows of an answer: MLA attends in the absorbed form (prompts: in the expanded one),
                                    // and weights keep their first form (kernels.h, Product::prompt)
  Logits logits = Logits::kLast;
  float summary_factor = 0;  // of the totals of its rows of logits (kernels.h, Summaries)
  bool states = false;  // its rows of ForwardResult::states are wanted, too
};

// What `sonde logits --hidden` shows; filled where not null.
struct Probe {
  std::vector<std::vector<float>> hidden;     // 0 = embedding, i = after block i: [tokens, hidden_size]
  std::vector<std::vector<int32_t>> experts;  // per layer: [tokens, k], ascending; empty for dense layers
};

struct ForwardResult {
  AlignedVector<float> logits;  // [rows wanted, vocab_size], in the order of the chunks
  AlignedVector<float> final;   // the same rows after the final norm: [rows wanted, hidden_size]
  AlignedVector<float> most, total;  // their summaries: [rows wanted, summary_blocks(vocab_size)]; empty: none
  AlignedVector<float> states;  // every row of the chunks that want states, after the final norm: [rows, hidden_size]
  int64_t experts = 0;          // that the rows chose between them, each once in a layer; of all layers

  SummarisedRow row(int64_t i, int64_t vocab_size) const {
    const auto n = std::size_t(vocab_size), blocks = std::size_t(summary_blocks(vocab_size)), at = std::size_t(i);
    const SummarisedRow alone{std::span(logits).subspan(at * n, n)};
    if (most.empty()) return alone;
    return {alone.x, std::span(most).subspan(at * blocks, blocks), std::span(total).subspan(at * blocks, blocks)};
  }
};

// Asked before each layer of a step, on the thread that runs it: how many of the layers are done. False gives the step
// up.
using StepWatch = std::function<bool(int64_t done, int64_t layers)>;

struct ModelOptions {
  bool exact = true;  // F32 activations on the weights as stored; else the fast forms: quantised weights packed (kernels/pack.h)
  int threads = 0;    // that pack; 0: as many as the process may use
  // Called while weights are packed, or read where that is not done: bytes done and to do; at the end with all done.
  std::function<void(int64_t, int64_t)> progress = {};
  std::function<void(const std::string&)> notice = {};  // one line for the person who started this; may be empty
  std::string cache = {};                   // folder where packed weights are kept for the next start; empty: nowhere
  int64_t cache_least = int64_t{64} << 20;  // bytes: less is packed anew each time
  bool verify_cache = false;                // packs, and compares with what is kept; keeps nothing
};

class Model {
 public:
  // Checks every tensor's shape against the config before anything runs.
  static Result<std::unique_ptr<Model>> load(std::shared_ptr<const Checkpoint> checkpoint,
                                             const ModelOptions& options = {});
  virtual ~Model() = default;

  virtual const ModelConfig& config() const = 0;
  virtual KvLayout kv_layout() const = 0;
  // Whether `absorbed` makes a difference: by latent attention, or by the fast path's products.
  virtual bool has_two_forms() const { return config().is_mla(); }
  virtual bool has_mtp() const = 0;
  // Bytes of stored weights that one token reads (active experts only; embedding: one row), and weights it multiplies
  // by.
  struct Work {
    int64_t bytes = 0, weights = 0;
  };
  virtual Work work_per_token() const = 0;
  // Of that, experts that one row chooses in all layers, and their bytes. A step reads the union of its rows' choices
  // (ForwardResult::experts).
  struct Choice {
    int64_t experts = 0, bytes = 0;
  };
  virtual Choice choice_per_token() const { return {}; }
  // Parameters in all and active per token (embedding counted, MTP layer not).
  virtual int64_t parameters() const = 0;
  virtual int64_t active_parameters() const = 0;
  // Bytes that this object owns beside the mapped files, and bytes of these that it goes on reading.
  virtual int64_t owned_bytes() const = 0;
  virtual int64_t mapped_bytes() const = 0;
  // The packed weights of the fast path.
  struct Packed {
    int64_t bytes = 0, matrices = 0;
    int64_t made = 0;   // matrices that this start has packed
    std::string file;   // where they are kept; empty: in memory
  };
  virtual Packed packed() const { return {}; }
  // Moves the next part of the fast path's mapped weights into huge pages, which makes later steps faster: some
  // milliseconds, between two steps. False: there is nothing to do now (base/huge_pages.h).
  virtual bool move_weights(ThreadPool&) { return false; }

  // One step. The rows' keys and values are written to their pages. `probe` needs a single chunk. False: `watch` gave
  // it up; `out` is worth nothing then, and the pages hold the rows of some layers only.
  virtual bool forward(ThreadPool& pool, std::span<const SequenceChunk> chunks, ForwardResult& out,
                       Probe* probe = nullptr, const StepWatch& watch = {}) = 0;
  // MTP drafts: row i joins final[i] (state of position next.start + i after the final norm) with next.tokens[i] (the
  // token after it) and gives the logits of the token after that. out.final: the rows of those logits, in final's place
  // for drafts further ahead. Uses the last layer's records of the pages, at positions next.start + i. Needs has_mtp().
  virtual void forward_mtp(ThreadPool& pool, const SequenceChunk& next, std::span<const float> final,
                           ForwardResult& out) = 0;
};

}  // namespace sonde
