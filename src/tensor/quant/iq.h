// Runs of eight values from a codebook.
#pragma once

#include "tensor/quant/bits.h"
#include "tensor/quant/iq_tables.h"

namespace sonde::quant::SONDE_ISA {

// Seven signs and an eighth that makes their number even.
inline uint32_t even_signs(uint32_t seven) {
  seven &= 127u;
  return seven | uint32_t(__builtin_parity(seven)) << 7;
}

// out[j] = d * values[j], negated where bit j of signs is set.
inline void signed_run(float d, const uint8_t* values, uint32_t signs, float* __restrict out) {
  for (int j = 0; j < 8; ++j) {
    out[j] = float_of(bits_of(d * float(values[j])) ^ (signs << (31 - j) & 0x80000000u));
  }
}

// out[j] = d * (values[j] + shift).
inline void shifted_run(float d, const int8_t* values, float shift, float* __restrict out) {
  for (int j = 0; j < 8; ++j) out[j] = d * (float(values[j]) + shift);
}

struct Eight {
  uint8_t values[8];
};
inline Eight join(const uint8_t* first, const uint8_t* second) {
  Eight out;
  __builtin_memcpy(out.values, first, 4);
  __builtin_memcpy(out.values + 4, second, 4);
  return out;
}

}  // namespace sonde::quant::SONDE_ISA
