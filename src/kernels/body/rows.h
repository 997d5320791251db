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

// -infinity of none.
float largest(const float* x, int64_t n) {
  float m = -__builtin_inff();
  if (n < 16) {
    for (int64_t i = 0; i < n; ++i) m = x[i] > m ? x[i] : m;
    return m;
  }
  Lanes lanes = load(x + n - 16);
  for (int64_t i = 0; i + 16 <= n; i += 16) lanes = larger(load(x + i), lanes);
  return largest_lane(lanes);
}

int64_t first_at_least(const float* x, int64_t n, float least) {
  const Lanes bound = set(least);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const uint32_t found = at_least(load(x + i), bound);
    if (found != 0) return i + __builtin_ctz(found);
  }
  while (i < n && !(x[i] >= least)) ++i;
  return i;
}

void top_k(float* x, int64_t n, int64_t k, int32_t* out) {
  constexpr float kTaken = -__builtin_inff();
  for (int64_t i = 0; i < k; ++i) {
    const float most = largest(x, n);
    int64_t at = most > kTaken ? first_at_least(x, n, most) : n;
    if (at == n) {  // nothing is left but -infinity and NaN
      const auto taken = [&] {
        for (int64_t j = 0; j < i; ++j) {
          if (out[j] == at) return true;
        }
        return false;
      };
      for (at = 0; taken(); ++at) {}
    }
    out[i] = int32_t(at), x[at] = kTaken;
  }
}

void softmax(float* x, int64_t n) {
  if (n <= 0) return;
  const Lanes total = set(float(exp_and_sum(x, n, largest(x, n))));
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(x + i, div(load(x + i), total));
  if (i < n) store_part(x + i, div(load_part(x + i, n - i), total), n - i);
}

void sigmoid(float* x, int64_t n) {
  const Lanes one = set(1.0f);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(x + i, times_sigmoid(one, load(x + i)));
  if (i < n) store_part(x + i, times_sigmoid(one, load_part(x + i, n - i)), n - i);
}

// --- summaries: kSummaryBlock is sixteen --------------------------------------------------------------------------------
SONDE_INLINE float most_of_block(Lanes x) {
  const bool finite = at_least(set(0x1.fffffep127f), magnitude(x)) == 0xFFFF;
  return finite ? largest_lane(x) : __builtin_nanf("");
}
SONDE_INLINE Lanes weights_of_block(Lanes x, float most, float factor) {
  return exp_lanes(mul(sub(x, set(most)), set(factor)));
}

void summarise(const float* x, int64_t n, float factor, float* most, float* total) {
  int64_t i = 0;
  for (; i + 64 <= n; i += 64, most += 4, total += 4) {
    for (int b = 0; b < 4; ++b) most[b] = most_of_block(load(x + i + 16 * b));
    if (factor == 0) continue;
    Lanes w[4];
    for (int b = 0; b < 4; ++b) w[b] = weights_of_block(load(x + i + 16 * b), most[b], factor);
    sum4(w[0], w[1], w[2], w[3], total);
  }
  for (; i < n; i += 16, ++most, ++total) {
    float some[16];
    for (int64_t j = 0; j < 16; ++j) some[j] = x[i + j < n ? i + j : i];
    *most = most_of_block(load(some));
    if (factor == 0) continue;
    store(some, weights_of_block(load(some), *most, factor));
    for (int64_t j = n - i; j < 16; ++j) some[j] = 0;
    *total = sum(load(some));
  }
}

double joined_total(const float* most, const float* total, int64_t blocks, float top, float factor) {
  const Lanes shift = set(top), scale = set(factor);
  const auto weights = [&](Lanes m, Lanes t) { return mul(t, exp_lanes(mul(sub(m, shift), scale))); };
  double s[16] = {};
  float some[16];
  int64_t i = 0;
  for (; i + 16 <= blocks; i += 16) {
    store(some, weights(load(most + i), load(total + i)));
    for (int j = 0; j < 16; ++j) s[j] += double(some[j]);
  }
  if (i < blocks) {
    store(some, weights(load_part(most + i, blocks - i), load_part(total + i, blocks - i)));
    for (int64_t j = 0; i + j < blocks; ++j) s[j] += double(some[j]);
  }
  return tree(s);
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
