// Rounding to -d, 0, d, where d is the largest magnitude.
#pragma once

#include "tensor/quant/codes.h"

namespace sonde::quant::SONDE_ISA {

struct Ternary {
  float d = 0, inverse = 0;

  Ternary(const float* x, int n) {
    for (int k = 0; k < n; ++k) d = d < __builtin_fabsf(x[k]) ? __builtin_fabsf(x[k]) : d;
    inverse = d != 0 ? 1.0f / d : 0.0f;
  }
  uint32_t code(float v) const { return uint32_t(clamped(__builtin_roundf(v * inverse), -1, 1) + 1); }
};

}  // namespace sonde::quant::SONDE_ISA
