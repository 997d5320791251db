// The shapes that can be made up, as their config.json files give them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "files/gguf.h"

namespace sonde {

struct SynthShape {
  std::string_view name, architecture;  // "v2-lite", "deepseek2"
  int64_t layers, hidden, intermediate, heads, key_heads, head_dim, vocabulary, context;
  double rope_base, epsilon;
  bool tied = false, biases = false, llama3_factors = false;
  int64_t mtp_layers = 0;  // layers of multi-token prediction, after the others

  struct Latent {  // multi-head latent attention and experts
    int64_t q_rank, kv_rank, nope, rope, value;
    int64_t dense_layers, experts, used, shared, width, groups, groups_used;
    double scale, log_multiplier;  // routed_scaling_factor; 0.1 * mscale_all_dim, 0: no YaRN
    bool sigmoid;                  // with it: normalised weights, correction bias
  };
  std::optional<Latent> latent;
};

std::span<const SynthShape> all_synth_shapes();

struct SynthTensor {
  std::string name;
  std::vector<int64_t> shape;  // outermost first
  enum class Fill { kNormal, kOnes, kRopeFactors } fill = Fill::kNormal;
  double deviation = 1;
};

// Tensors in the order of the file: embedding and output, then the first `layers` layers, then those of multi-token
// prediction.
std::vector<SynthTensor> synth_tensors(const SynthShape& shape, int64_t layers);
// The keys of the architecture, as llama.cpp's converter writes them.
void set_shape_keys(const SynthShape& shape, int64_t layers, GgufWriter& out);
// What each rotary frequency of Llama 3.1 is divided by.
std::vector<float> llama3_factors(const SynthShape& shape);

}  // namespace sonde
