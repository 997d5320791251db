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

// With angles, and products, in T: eight pairs at a time.
template <class T>
void rotate_by(float* x, const T* cosine, const T* sine, int64_t n, bool halves) {
  typedef T Eight __attribute__((vector_size(8 * sizeof(T))));
  typedef float Floats __attribute__((vector_size(8 * sizeof(float))));
  const int64_t half = n / 2, whole = half / 8 * 8;
  const int64_t step = halves ? 1 : 2, other = halves ? half : 1;
  for (int64_t i = 0; i < whole; i += 8) {
    float* const first = x + i * step;
    float* const second = halves ? first + half : first + 8;
    Floats p, q;
    Eight c, s;
    __builtin_memcpy(&p, first, sizeof p), __builtin_memcpy(&q, second, sizeof q);
    __builtin_memcpy(&c, cosine + i, sizeof c), __builtin_memcpy(&s, sine + i, sizeof s);
    const Floats a = halves ? p : __builtin_shufflevector(p, q, 0, 2, 4, 6, 8, 10, 12, 14);
    const Floats b = halves ? q : __builtin_shufflevector(p, q, 1, 3, 5, 7, 9, 11, 13, 15);
    const Eight u = __builtin_convertvector(a, Eight), v = __builtin_convertvector(b, Eight);
    const Floats turned_a = __builtin_convertvector(u * c - v * s, Floats);
    const Floats turned_b = __builtin_convertvector(v * c + u * s, Floats);
    p = halves ? turned_a : __builtin_shufflevector(turned_a, turned_b, 0, 8, 1, 9, 2, 10, 3, 11);
    q = halves ? turned_b : __builtin_shufflevector(turned_a, turned_b, 4, 12, 5, 13, 6, 14, 7, 15);
    __builtin_memcpy(first, &p, sizeof p), __builtin_memcpy(second, &q, sizeof q);
  }
  for (int64_t i = whole; i < half; ++i) {
    float& a = x[i * step];
    float& b = x[i * step + other];
    const T u = T(a), v = T(b);
    a = float(u * cosine[i] - v * sine[i]), b = float(v * cosine[i] + u * sine[i]);
  }
}
void rotate(float* x, const float* cosine, const float* sine, int64_t n, bool halves) { rotate_by(x, cosine, sine, n, halves); }
void rotate_exact(float* x, const double* cosine, const double* sine, int64_t n, bool halves) {
  rotate_by(x, cosine, sine, n, halves);
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
