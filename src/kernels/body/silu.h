// silu(z) * up, silu(z) = z / (1 + exp(-z)).
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

// x / (1 + e^-z). 1 + e^-17 is 1 already; denormals from further below would cost a hundred cycles each.
SONDE_INLINE Lanes times_sigmoid(Lanes x, Lanes z) {
  return div(x, add(set(1.0f), exp_lanes(larger(set(-80.0f), sub(zero(), z)))));
}
SONDE_INLINE Lanes silu_mul_lanes(Lanes z, Lanes up) { return mul(times_sigmoid(z, z), up); }

void silu_mul(const float* gate, const float* up, float* out, int64_t n) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(out + i, silu_mul_lanes(load(gate + i), load(up + i)));
  if (i < n) store_part(out + i, silu_mul_lanes(load_part(gate + i, n - i), load_part(up + i, n - i)), n - i);
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
