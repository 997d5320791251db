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

// A block of such runs of 256 / kRuns values: writes d and dmin to p, each run's scale and min (0 ... levels) and the
// codes (0 ... top).
template <int kRuns>
inline void affine_block(const float* x, int top, int levels, uint8_t* p, uint8_t* scales, uint8_t* mins,
                         uint8_t* codes) {
  constexpr int kRun = 256 / kRuns;
  const float most = float(levels);
  AffineRun runs[kRuns];
  float scale = 0, min = 0;
  for (int r = 0; r < kRuns; ++r) {
    runs[r] = affine_run(x + kRun * r, kRun, top);
    scale = runs[r].scale > scale ? runs[r].scale : scale;
    min = runs[r].min > min ? runs[r].min : min;
  }
  store(p, float_to_half(scale / most));
  store(p + 2, float_to_half(min / most));
  const float d = half(p), dmin = half(p + 2);
  for (int r = 0; r < kRuns; ++r) {
    scales[r] = uint8_t(scale > 0 ? clamped(runs[r].scale / scale * most + 0.5f, 0, levels) : 0);
    mins[r] = uint8_t(min > 0 ? clamped(runs[r].min / min * most + 0.5f, 0, levels) : 0);
    const float step = d * float(scales[r]), m = dmin * float(mins[r]), inverse = step > 0 ? 1.0f / step : 0.0f;
    for (int k = kRun * r; k < kRun * (r + 1); ++k) codes[k] = uint8_t(clamped((x[k] + m) * inverse + 0.5f, 0, top));
  }
}

// The scale of n <= 32 values whose codes run from -extent to extent - 1 (either sign); errors weigh x^2.
inline float symmetric_scale(const float* x, int n, int extent) {
  float largest = 0, extreme = 0;
  for (int k = 0; k < n; ++k) {
    if (__builtin_fabsf(x[k]) > largest) largest = __builtin_fabsf(x[k]), extreme = x[k];
  }
  if (largest < 1e-15f) return 0;
  float best = 0, best_gain = -1;
  const auto fit = [&](float inverse) {
    float sum_xl = 0, sum_l2 = 0;
    for (int k = 0; k < n; ++k) {
      const float code = float(clamped(__builtin_roundf(x[k] * inverse), -extent, extent - 1)), w = x[k] * x[k];
      sum_xl += w * x[k] * code, sum_l2 += w * code * code;
    }
    // The fit takes sum_xl^2 / sum_l2 off the error. What is better by rounding alone is not better.
    if (sum_l2 > 0 && sum_xl * sum_xl > best_gain * 1.00001f * sum_l2)
      best = sum_xl / sum_l2, best_gain = sum_xl * best;
  };
  fit(-float(extent) / extreme);
  for (int step = -9; step <= 9; ++step) fit(-(float(extent) + 0.1f * float(step)) / extreme);
  return best;
}

// A block of sixteen such runs: writes d to p, each run's scale plus `levels` (0 ... 2 levels - 1; the largest becomes
// -levels) and the codes plus `extent`.
inline void symmetric_block(const float* x, int extent, int levels, uint8_t* p, uint8_t* scales, uint8_t* codes) {
  float runs[16], extreme = 0;
  for (int r = 0; r < 16; ++r) {
    runs[r] = symmetric_scale(x + 16 * r, 16, extent);
    if (__builtin_fabsf(runs[r]) > __builtin_fabsf(extreme)) extreme = runs[r];
  }
  store(p, float_to_half(extreme / -float(levels)));
  const float d = half(p), inverse = d != 0 ? 1.0f / d : 0.0f;
  for (int r = 0; r < 16; ++r) {
    const int scale = clamped(__builtin_roundf(runs[r] * inverse), -levels, levels - 1);
    const float step = d * float(scale), per_step = step != 0 ? 1.0f / step : 0.0f;
    for (int k = 16 * r; k < 16 * r + 16; ++k)
      codes[k] = uint8_t(clamped(__builtin_roundf(x[k] * per_step), -extent, extent - 1) + extent);
    scales[r] = uint8_t(scale + levels);
  }
}

}  // namespace sonde::quant::SONDE_ISA
