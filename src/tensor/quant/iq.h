// Runs of eight values from a codebook, two at a time.
#pragma once

#include "tensor/quant/codes.h"
#include "tensor/quant/iq_tables.h"

namespace sonde::quant::SONDE_ISA {

// Seven signs and an eighth that makes their number even.
inline uint32_t even_signs(uint32_t seven) {
  seven &= 127u;
  return seven | uint32_t(__builtin_parity(seven)) << 7;
}

inline uint64_t eight(const uint8_t* values) { return load<uint64_t>(values); }
inline uint64_t eight(const uint8_t* first, const uint8_t* second) {
  return load<uint32_t>(first) | uint64_t(load<uint32_t>(second)) << 32;
}

// out[k] = d * value k, negated where bit k of signs is set.
inline void signed_run(float d, uint64_t first, uint64_t second, uint32_t signs, float* __restrict out) {
  emit(negate(join(first, second), spread(signs)), d, out);
}

// out[k] = d * (value k + shift), values -1, 0, 1; a run's shift is -1/8 where its flag is set, else 1/8. Computed in
// eighths: the scale moves by a power of two, so nothing rounds differently.
inline void shifted_run(float d, const int8_t* first, bool below, const int8_t* second, bool second_below,
                        float* __restrict out) {
  const uint64_t each = 0x0101010101010101u;
  const UCodes values = join(load<uint64_t>(reinterpret_cast<const uint8_t*>(first)),
                             load<uint64_t>(reinterpret_cast<const uint8_t*>(second)));
  const UCodes shifts = join(below ? each * 0xFF : each, second_below ? each * 0xFF : each);
  emit((values << 3) + shifts, d * 0.125f, out);
}

}  // namespace sonde::quant::SONDE_ISA
