#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace sonde {
namespace {

double mscale(double factor, double m) { return factor > 1 ? 0.1 * m * std::log(factor) + 1.0 : 1.0; }

// YaRN (Peng et al. 2023, section 3.2), as DeepSeek-V3's precompute_freqs_cis computes it.
void yarn(const RopeScaling& s, double theta, int64_t dim, std::vector<double>& f) {
  const auto correction = [&](double rotations) {
    return double(dim) * std::log(s.original_max_position_embeddings / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(theta));
  };
  const double low = std::max(std::floor(correction(s.beta_fast)), 0.0);
  double high = std::min(std::ceil(correction(s.beta_slow)), double(dim - 1));
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < f.size(); ++i) {
    const double ramp = std::clamp((double(i) - low) / (high - low), 0.0, 1.0);
    f[i] = f[i] / s.factor * ramp + f[i] * (1 - ramp);
  }
}

// Llama 3.1: long waves are stretched, short ones kept, those between blended.
void llama3(const RopeScaling& s, std::vector<double>& f) {
  for (double& x : f) {
    const double wave = 2 * std::numbers::pi / x, length = s.original_max_position_embeddings;
    if (wave < length / s.high_freq_factor) continue;
    if (wave > length / s.low_freq_factor) {
      x /= s.factor;
    } else {
      const double t = (length / wave - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
      x = (1 - t) * x / s.factor + t * x;
    }
  }
}

}  // namespace

Rope Rope::make(const ModelConfig& config, int64_t dim, std::span<const float> factors) {
  Rope rope;
  rope.frequencies.resize(std::size_t(dim / 2));
  for (std::size_t i = 0; i < rope.frequencies.size(); ++i)
    rope.frequencies[i] = std::pow(config.rope_theta, -2.0 * double(i) / double(dim));
  for (std::size_t i = 0; i < std::min(factors.size(), rope.frequencies.size()); ++i)
    rope.frequencies[i] /= double(factors[i]);
  const RopeScaling& s = config.rope_scaling;
  if (s.kind == RopeScaling::Kind::kLlama3) llama3(s, rope.frequencies);
  if (s.kind == RopeScaling::Kind::kYarn) {
    yarn(s, config.rope_theta, dim, rope.frequencies);
    if (s.mscale_all_dim > 0) {
      rope.magnitude = mscale(s.factor, s.mscale) / mscale(s.factor, s.mscale_all_dim);
      rope.score_factor = mscale(s.factor, s.mscale_all_dim) * mscale(s.factor, s.mscale_all_dim);
    } else {
      rope.magnitude = s.attention_factor.value_or(mscale(s.factor, 1.0)) * s.attn_factor;
    }
  }
  return rope;
}

void Rope::angles(int64_t position, double* cosine, double* sine) const {
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const double angle = double(position) * frequencies[i];
    cosine[i] = std::cos(angle) * magnitude;
    sine[i] = std::sin(angle) * magnitude;
  }
}

}  // namespace sonde
