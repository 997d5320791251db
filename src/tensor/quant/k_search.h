// How K-quants choose scales: several starting steps for each run, a weighted least-squares fit for each, the best
// kept.
#pragma once

#include "tensor/quant/k_scales.h"

namespace sonde::quant::SONDE_ISA {

struct AffineRun {
  float scale = 0, min = 0;  // x ~ scale * code - min; both at least 0
};

// The fit of n <= 32 values to codes 0 ... top. Errors weigh sqrt(mean x^2) + |x|: large values matter more.
inline AffineRun affine_run(const float* x, int n, int top) {
  float low = 0, high = x[0], power = 0, weights[32];
  for (int k = 0; k < n; ++k) low = x[k] < low ? x[k] : low, high = x[k] > high ? x[k] : high, power += x[k] * x[k];
  if (!(high > low)) return {0, -low};
  const float spread = __builtin_sqrtf(power / float(n));
  float sum_w = 0, sum_x = 0;
  for (int k = 0; k < n; ++k)
    weights[k] = spread + __builtin_fabsf(x[k]), sum_w += weights[k], sum_x += weights[k] * x[k];

  AffineRun best{(high - low) / float(top), -low};
  float best_error = -1;
  for (int step = -1; step <= 36; ++step) {  // -1: the full range as it is
    const float inverse = (step < 0 ? float(top) : float(top) - 0.9f + 0.05f * float(step)) / (high - low);
    float codes[32], sum_l = 0, sum_l2 = 0, sum_xl = 0;
    for (int k = 0; k < n; ++k) {
      codes[k] = float(clamped((x[k] - low) * inverse + 0.5f, 0, top));
      const float w = weights[k] * codes[k];
      sum_l += w, sum_l2 += w * codes[k], sum_xl += w * x[k];
    }
    AffineRun run = best;
    if (step >= 0) {
      const float determinant = sum_w * sum_l2 - sum_l * sum_l;
      if (!(determinant > 0)) continue;
      run = {(sum_w * sum_xl - sum_x * sum_l) / determinant, -(sum_l2 * sum_x - sum_l * sum_xl) / determinant};
      if (run.min < 0) run = {sum_xl / sum_l2, 0};
      if (!(run.scale > 0)) continue;
    }
    float error = 0;
    for (int k = 0; k < n; ++k) {
      const float off = run.scale * codes[k] - run.min - x[k];
      error += weights[k] * off * off;
    }
    if (best_error < 0 || error < best_error) best = run, best_error = error;
  }
  return best;
}

// A block of eight such runs: writes d and dmin to p, the codes (0 ... top) to `codes`, and returns scales and mins.
inline KScales affine_block(const float* x, int top, uint8_t* p, uint8_t* codes) {
  AffineRun runs[8];
  float scale = 0, min = 0;
  for (int r = 0; r < 8; ++r) {
    runs[r] = affine_run(x + 32 * r, 32, top);
    scale = runs[r].scale > scale ? runs[r].scale : scale;
    min = runs[r].min > min ? runs[r].min : min;
  }
  store(p, float_to_half(scale / 63.0f));
  store(p + 2, float_to_half(min / 63.0f));
  const float d = half(p), dmin = half(p + 2);
  KScales s;
  for (int r = 0; r < 8; ++r) {
    s.scale[r] = uint8_t(scale > 0 ? clamped(runs[r].scale / scale * 63.0f + 0.5f, 0, 63) : 0);
    s.min[r] = uint8_t(min > 0 ? clamped(runs[r].min / min * 63.0f + 0.5f, 0, 63) : 0);
    const float step = d * float(s.scale[r]), m = dmin * float(s.min[r]), inverse = step > 0 ? 1.0f / step : 0.0f;
    for (int k = 32 * r; k < 32 * r + 32; ++k) codes[k] = uint8_t(clamped((x[k] + m) * inverse + 0.5f, 0, top));
  }
  return s;
}

// The scale of n <= 32 values whose codes run from -extent to extent - 1 (either sign); errors weigh x^2.
inline float symmetric_scale(const float* x, int n, int extent) {
  float largest = 0, extreme = 0;
  for (int k = 0; k < n; ++k) {
    if (__builtin_fabsf(x[k]) > largest) largest = __builtin_fabsf(x[k]), extreme = x[k];
  }
  if (largest < 1e-15f) return 0;
  float best = 0, best_gain = -1;
  for (int step = -9; step <= 9; ++step) {
    const float inverse = -(float(extent) + 0.1f * float(step)) / extreme;
    float sum_xl = 0, sum_l2 = 0;
    for (int k = 0; k < n; ++k) {
      const float code = float(clamped(__builtin_roundf(x[k] * inverse), -extent, extent - 1)), w = x[k] * x[k];
      sum_xl += w * x[k] * code, sum_l2 += w * code * code;
    }
    // The fit takes sum_xl^2 / sum_l2 off the error.
    if (sum_l2 > 0 && sum_xl * sum_xl > best_gain * sum_l2) best = sum_xl / sum_l2, best_gain = sum_xl * best;
  }
  return best;
}

}  // namespace sonde::quant::SONDE_ISA
