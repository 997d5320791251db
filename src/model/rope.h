// Rotary positions: plain, YaRN (with DeepSeek's mscale) and Llama 3's scaling. Tables in double.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/config.h"

namespace sonde {

struct Rope {
  std::vector<double> frequencies;  // [dim / 2], radians per position
  double magnitude = 1;             // multiplies cosine and sine
  double score_factor = 1;          // multiplies the attention scores (DeepSeek: mscale_all_dim squared)

  // `dim` values of a head turn. `factors`: optional divisors of the frequencies (rope_freqs.weight of a GGUF file).
  static Rope make(const ModelConfig& config, int64_t dim, std::span<const float> factors = {});

  // cosine, sine: [dim / 2] at one position.
  void angles(int64_t position, double* cosine, double* sine) const;
};

}  // namespace sonde
