// Joining segments of attention, and other small parts of the fast path.
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

void join_part(float* whole, const float* part, int64_t value_dim) {
  const float most = part[0] > whole[0] ? part[0] : whole[0];
  const Lanes old_weight = exp_lanes(set(whole[0] - most)), weight = exp_lanes(set(part[0] - most));
  whole[0] = most;
  const Lanes total = fma(set(part[1]), weight, mul(set(whole[1]), old_weight));
  store_part(whole + 1, total, 1);
  for (int64_t d = kPartHeader; d < kPartHeader + value_dim; d += 16) {
    store(whole + d, fma(load(part + d), weight, mul(load(whole + d), old_weight)));
  }
}

void finish_part(const float* whole, float* out, int64_t value_dim) {
  const Lanes total = set(whole[1]);
  int64_t d = 0;
  for (; d + 16 <= value_dim; d += 16) store(out + d, div(load(whole + kPartHeader + d), total));
  if (d < value_dim) store_part(out + d, div(load(whole + kPartHeader + d), total), value_dim - d);
}

void to_bf16(const float* x, int64_t n, uint16_t* out) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store_bf16(out + i, load(x + i));
  if (i == n) return;
  uint16_t rest[16];
  store_bf16(rest, load_part(x + i, n - i));
  for (int64_t j = 0; i + j < n; ++j) out[i + j] = rest[j];
}

void rotate(float* x, const float* cosine, const float* sine, int64_t n, bool halves) {
  const int64_t half = n / 2;
  if (halves) {
    for (int64_t i = 0; i < half; ++i) {
      const float a = x[i], b = x[half + i];
      x[i] = a * cosine[i] - b * sine[i], x[half + i] = b * cosine[i] + a * sine[i];
    }
    return;
  }
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * cosine[i] - b * sine[i], x[2 * i + 1] = b * cosine[i] + a * sine[i];
  }
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
