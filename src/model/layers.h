// The parts of a decoder block. x and y are [rows, hidden_size]; y must not be x.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "base/memory.h"
#include "model/config.h"
#include "model/packed_weights.h"
#include "model/rope.h"
#include "model/step.h"

namespace sonde {

class Attention {
 public:
  virtual ~Attention() = default;
  // Writes the rows' records to their pages, then attends.
  virtual void forward(Step& step, Scratch& scratch, const float* x, float* y) const = 0;
  virtual int64_t owned_bytes() const { return 0; }
};

class FeedForward {
 public:
  virtual ~FeedForward() = default;
  virtual void forward(Step& step, Scratch& scratch, const float* x, float* y) const = 0;
};

// h <- h + attention(norm(h)); h <- h + feed_forward(norm(h))
struct Block {
  std::vector<float> input_layernorm, post_attention_layernorm;  // [hidden_size]
  std::unique_ptr<Attention> attention;
  std::unique_ptr<FeedForward> feed_forward;
};

// Reads tensors of one checkpoint and keeps count of what a token will touch.
class Loader {
 public:
  // `packed`: where the fast path keeps its weights; null: the exact path.
  Loader(const Checkpoint& checkpoint, const ModelConfig& config, PackedWeights* packed, const ModelOptions& options)
      : checkpoint_(checkpoint), config_(config), packed_(packed), options_(options) {}

  // `share` of the matrix is read per token (experts: k / n); 0: not in the main path. Packed in the fast path.
  Result<Matrix> matrix(const std::string& name, int64_t rows, int64_t cols, double share = 1);
  // A matrix whose rows are looked up.
  Result<Matrix> table(const std::string& name, int64_t rows, int64_t cols);
  Status pack(Matrix& matrix);
  // A matrix of its own from values [rows, cols] that `make` writes, if they are needed: as they are in the exact path
  // (`owned` keeps them), else rounded to F16, or to bytes and packed.
  Result<Matrix> values(int64_t rows, int64_t cols, const std::function<void(float*)>& make,
                        std::vector<AlignedVector<float>>& owned, bool to_bytes = false);
  Result<std::vector<float>> vector(const std::string& name, int64_t count);
  bool has(const std::string& name) const { return checkpoint_.find(name) != nullptr; }
  // While counting is off (MTP layer), nothing is added to the sums.
  void count(bool on) { counting_ = on; }
  // A layer whose rows choose so many experts.
  void count_choice(int64_t experts) { chosen_experts += counting_ ? experts : 0; }

  const Checkpoint& checkpoint() const { return checkpoint_; }
  const ModelConfig& config() const { return config_; }
  double bytes_per_token = 0, weights_per_token = 0, parameters = 0, active_parameters = 0;
  double chosen_bytes = 0;     // of bytes_per_token, those of experts
  int64_t chosen_experts = 0;  // by a row, in all layers
  int64_t mapped_bytes = 0;  // of the files, which stay in use
  bool two_forms = false;    // some weights are multiplied in another form for a prompt's rows
  std::vector<std::span<const std::byte>> in_place;  // of the files: what the fast path multiplies as it is stored

 private:
  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  PackedWeights* packed_;
  const ModelOptions& options_;
  void count(const Matrix& matrix, double share);

  bool counting_ = true;
  int64_t done_ = 0;  // bytes of the matrices so far
};

std::string layer_name(int64_t layer, const char* rest);  // "model.layers.3.mlp.gate.weight"

// Grouped-query attention (Llama, Qwen): optional biases on q, k, v; optional norms of each head's q and k.
Result<std::unique_ptr<Attention>> load_gqa(Loader& loader, int64_t layer, bool biases, bool head_norms);
// Multi-head latent attention (DeepSeek-V2, section 2.1): joined or split kv_b.
Result<std::unique_ptr<Attention>> load_mla(Loader& loader, int64_t layer, double score_factor);
// down(silu(gate(x)) * up(x)); `prefix` "model.layers.3.mlp."
Result<std::unique_ptr<FeedForward>> load_mlp(Loader& loader, const std::string& prefix, int64_t intermediate_size);
// DeepSeekMoE: routed experts and one always-on shared expert.
Result<std::unique_ptr<FeedForward>> load_moe(Loader& loader, int64_t layer);

}  // namespace sonde
