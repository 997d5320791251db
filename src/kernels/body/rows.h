// Elementwise kernels and norms. Sums run in sixteen double lanes, then as a tree, whatever the registers are.
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

SONDE_INLINE double tree(const double (&s)[16]) {
  double t[8];
  for (int i = 0; i < 8; ++i) t[i] = s[i] + s[i + 8];
  for (int i = 0; i < 4; ++i) t[i] = t[i] + t[i + 4];
  return (t[0] + t[2]) + (t[1] + t[3]);
}

void rms_norm(const float* x, const float* w, float eps, float* y, int64_t n) {
  double s[16] = {};
  int64_t k = 0;
  for (; k + 16 <= n; k += 16) {
    for (int j = 0; j < 16; ++j) s[j] += double(x[k + j]) * double(x[k + j]);  // the product of two floats is exact
  }
  for (int64_t j = 0; k + j < n; ++j) s[j] += double(x[k + j]) * double(x[k + j]);
  const float inverse = float(1.0 / __builtin_sqrt(tree(s) / double(n) + double(eps)));
  for (int64_t i = 0; i < n; ++i) y[i] = w[i] * (x[i] * inverse);
}

// 1 + e^-17 is 1 already; denormals from further below would cost a hundred cycles each.
SONDE_INLINE Lanes silu_mul_lanes(Lanes z, Lanes up) {
  return mul(div(z, add(set(1.0f), exp_lanes(larger(set(-80.0f), sub(zero(), z))))), up);
}

void silu_mul(const float* gate, const float* up, float* out, int64_t n) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(out + i, silu_mul_lanes(load(gate + i), load(up + i)));
  if (i < n) store_part(out + i, silu_mul_lanes(load_part(gate + i, n - i), load_part(up + i, n - i)), n - i);
}

void add_scaled(float* y, const float* x, float a, int64_t n) {
  const Lanes scale = set(a);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(y + i, fma(scale, load(x + i), load(y + i)));
  if (i < n) store_part(y + i, fma(scale, load_part(x + i, n - i), load_part(y + i, n - i)), n - i);
}

// x[i] = exp(x[i] - shift), their sum in sixteen double lanes.
SONDE_INLINE double exp_and_sum(float* x, int64_t n, float shift) {
  double s[16] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    store(x + i, exp_lanes(sub(load(x + i), set(shift))));
    for (int j = 0; j < 16; ++j) s[j] += double(x[i + j]);
  }
  if (i < n) {
    store_part(x + i, exp_lanes(sub(load_part(x + i, n - i), set(shift))), n - i);
    for (int64_t j = 0; i + j < n; ++j) s[j] += double(x[i + j]);
  }
  return tree(s);
}

SONDE_INLINE float largest(const float* x, int64_t n) {
  float m = -__builtin_inff();
  for (int64_t i = 0; i < n; ++i) m = x[i] > m ? x[i] : m;
  return m;
}

void softmax(float* x, int64_t n) {
  if (n <= 0) return;
  const double s = exp_and_sum(x, n, largest(x, n));
  for (int64_t i = 0; i < n; ++i) x[i] = float(double(x[i]) / s);
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
