// Exponentials of sixteen lanes.
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

// e^x within 2 ulp, 0 below -104, infinity above 89, NaN for NaN: x = n ln 2 + r, Taylor to r^7 / 7!.
SONDE_INLINE Lanes exp_lanes(Lanes x) {
  x = smaller(set(89.0f), larger(set(-104.0f), x));  // the operand that may be NaN stands last
  const Lanes magic = set(12582912.0f);              // 1.5 * 2^23: adding it rounds to an integer
  const Lanes shifted = fma(x, set(1.44269504f), magic), n = sub(shifted, magic);
  Lanes r = fma(n, set(-0.693145752f), x);  // ln 2 in two parts; the first has 15 bits, so n times it is exact
  r = fma(n, set(-1.42860677e-6f), r);
  Lanes p = set(1.0f / 5040);
  p = fma(p, r, set(1.0f / 720));
  p = fma(p, r, set(1.0f / 120));
  p = fma(p, r, set(1.0f / 24));
  p = fma(p, r, set(1.0f / 6));
  p = fma(p, r, set(0.5f));
  p = fma(p, r, set(1.0f));
  p = fma(p, r, set(1.0f));
  return times_power(p, shifted);
}

// e^x for x <= 0, to be rounded to BF16: within 2^-18, 0 below -104, NaN for NaN.
SONDE_INLINE Lanes weight_lanes(Lanes x) {
  x = larger(set(-104.0f), x);  // the operand that may be NaN stands last
  const Lanes magic = set(12582912.0f), shifted = fma(x, set(1.44269504f), magic), n = sub(shifted, magic);
  const Lanes r = fma(n, set(-0.693147181f), x);
  Lanes p = fma(set(1.0f / 120), r, set(1.0f / 24));
  p = fma(p, r, set(1.0f / 6));
  p = fma(p, r, set(0.5f));
  p = fma(p, r, set(1.0f));
  p = fma(p, r, set(1.0f));
  return times_power(p, shifted);
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
