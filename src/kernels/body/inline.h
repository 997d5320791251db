// Small tools of the kernels.
#pragma once

#define SONDE_INLINE __attribute__((always_inline)) inline
#if defined(__clang__)
#define SONDE_APART __attribute__((noinline))
#else
#define SONDE_APART __attribute__((noinline, noclone))
#endif

namespace sonde::kernels::SONDE_ISA {
namespace {

constexpr int64_t rounded_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

SONDE_INLINE const float* row_of(const StripInput& in, int64_t i) {
  return in.x + (in.rows == nullptr ? i : in.rows[i]) * in.ldx;
}

// Calls f with the constant n, 1 <= n <= Max.
template <int Max, class F>
SONDE_INLINE void with_count(int64_t n, F&& f) {
  if constexpr (Max > 1) {
    if (n < Max) return with_count<Max - 1>(n, f);
  }
  f.template operator()<Max>();
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
