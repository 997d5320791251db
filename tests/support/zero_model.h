// Files of zeros in a shape of `sonde synth`, without a vocabulary.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "files/gguf.h"
#include "files/synth_shapes.h"
#include "tensor/quant/mix.h"

namespace sonde::test {

// A small mixture with latent attention, with rows of whole blocks of every type.
inline const SynthShape kLatent{.name = "latent",
                                .architecture = "deepseek2",
                                .layers = 2,
                                .hidden = 1024,
                                .intermediate = 2816,
                                .heads = 8,
                                .key_heads = 8,
                                .head_dim = 192,
                                .vocabulary = 2048,
                                .context = 4096,
                                .rope_base = 1e4,
                                .epsilon = 1e-6,
                                .latent = SynthShape::Latent{.q_rank = 256,
                                                             .kv_rank = 256,
                                                             .nope = 128,
                                                             .rope = 64,
                                                             .value = 128,
                                                             .dense_layers = 1,
                                                             .experts = 16,
                                                             .used = 2,
                                                             .shared = 1,
                                                             .width = 512,
                                                             .groups = 1,
                                                             .groups_used = 1,
                                                             .scale = 1,
                                                             .log_multiplier = 0,
                                                             .sigmoid = true}};

inline const Type& type_of(const SynthTensor& t, const SynthShape& shape, const Mix& mix, int64_t layers) {
  const int64_t experts = shape.latent ? shape.latent->experts : 0, key_heads = shape.latent ? 1 : shape.key_heads;
  return type_in_mix(mix, {t.name, int64_t(t.shape.size()), t.shape.back(), layers, shape.tied, experts,
                           shape.heads / key_heads});
}

inline void write_zeros(const std::string& path, const SynthShape& shape, const Mix& mix, int64_t layers) {
  GgufWriter out;
  set_shape_keys(shape, layers, out);
  const std::vector<SynthTensor> tensors = synth_tensors(shape, layers);
  for (const SynthTensor& t : tensors) out.declare(t.name, type_of(t, shape, mix, layers), t.shape);
  ASSERT_TRUE(out.begin(path).ok());
  for (const SynthTensor& t : tensors) {
    int64_t rows = 1;
    for (std::size_t d = 0; d + 1 < t.shape.size(); ++d) rows *= t.shape[d];
    const int64_t bytes = rows * type_of(t, shape, mix, layers).row_bytes(t.shape.back());
    ASSERT_TRUE(out.write(std::vector<std::byte>(std::size_t(bytes))).ok());
  }
  ASSERT_TRUE(out.finish().ok());
}

}  // namespace sonde::test
