// Kernels that work row by row or on one vector.
#include <cmath>

#include "kernels/kernels.h"
#include "kernels/table.h"

namespace sonde {
namespace {
constexpr int64_t kSmall = 1 << 14;  // floats below which a fork-join costs more than it saves
}

float dot(const float* a, const float* b, int64_t n) { return kernels::table().dot(a, b, n); }

void rms_norm(ThreadPool& pool, const float* x, int64_t ldx, const float* w, float eps, float* y, int64_t ldy, int64_t m,
              int64_t n) {
  const kernels::KernelTable& table = kernels::table();
  const auto rows = [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) table.rms_norm(x + i * ldx, w, eps, y + i * ldy, n);
  };
  if (m * n < kSmall) return rows(0, m, 0);
  pool.split(m, 1, rows);
}

void rms_norm(const float* x, const float* w, float eps, float* y, int64_t n) { kernels::table().rms_norm(x, w, eps, y, n); }

void silu_mul(ThreadPool& pool, const float* gate, const float* up, float* out, int64_t count) {
  const kernels::KernelTable& table = kernels::table();
  const auto part = [&](int64_t begin, int64_t end, int) {
    table.silu_mul(gate + begin, up + begin, out + begin, end - begin);
  };
  if (count < kSmall) return part(0, count, 0);
  pool.split(count, 1024, part);
}

void add_scaled(float* y, const float* x, float a, int64_t n) { kernels::table().add_scaled(y, x, a, n); }
void softmax(float* x, int64_t n) { kernels::table().softmax(x, n); }
void sigmoid(float* x, int64_t n) { kernels::table().sigmoid(x, n); }
float largest(const float* x, int64_t n) { return kernels::table().largest(x, n); }
int64_t first_at_least(const float* x, int64_t n, float least) { return kernels::table().first_at_least(x, n, least); }
void top_k(float* x, int64_t n, int64_t k, int32_t* out) { kernels::table().top_k(x, n, k, out); }

void summarise(const float* x, int64_t n, float factor, float* most, float* total) {
  kernels::table().summarise(x, n, factor, most, total);
}
double joined_total(const float* most, const float* total, int64_t blocks, float largest, float factor) {
  return kernels::table().joined_total(most, total, blocks, largest, factor);
}

void rotate(float* x, const double* cosine, const double* sine, int64_t n, bool halves) {
  kernels::table().rotate_exact(x, cosine, sine, n, halves);
}

void rotate(float* x, const float* cosine, const float* sine, int64_t n, bool halves) {
  kernels::table().rotate(x, cosine, sine, n, halves);
}

void to_bf16(const float* x, int64_t n, std::byte* out) {
  kernels::table().to_bf16(x, n, reinterpret_cast<uint16_t*>(out));
}

bool all_finite(const float* x, int64_t n) {
  // An exponent of all ones: infinity or NaN. Integers, so that the loop runs in vectors.
  int bad = 0;
  for (int64_t i = 0; i < n; ++i) bad |= int((__builtin_bit_cast(uint32_t, x[i]) & 0x7F800000u) == 0x7F800000u);
  return bad == 0;
}

}  // namespace sonde
