// The twelve bytes in which Q4_K and Q5_K keep eight scales and eight mins of 6 bits.
#pragma once

#include "tensor/quant/strip.h"

namespace sonde::quant::SONDE_ISA {

struct KScales {
  uint8_t scale[8], min[8];
};

inline KScales k_scales(const uint8_t* b) {
  const uint32_t b0 = load<uint32_t>(b), b4 = load<uint32_t>(b + 4), b8 = load<uint32_t>(b + 8);
  const uint32_t words[4] = {b0 & 0x3F3F3F3Fu, (b8 & 0x0F0F0F0Fu) | (b0 >> 2 & 0x30303030u),        // scales
                             b4 & 0x3F3F3F3Fu, (b8 >> 4 & 0x0F0F0F0Fu) | (b4 >> 2 & 0x30303030u)};  // mins
  KScales s;
  __builtin_memcpy(&s, words, sizeof s);
  return s;
}

// d, -dmin, scales and mins of a block that begins with them.
inline void k_split(const uint8_t* block, Split& s) {
  s.d = load<uint16_t>(block), s.m = load<uint16_t>(block + 2) ^ 0x8000;
  const KScales scales = k_scales(block + 4);
  __builtin_memcpy(s.scale, scales.scale, 8);
  __builtin_memcpy(s.min, scales.min, 8);
}

// What the runs multiply by and add: d * scale and -(dmin * min), each product rounded.
struct KSteps {
  float step[16], shift[16];  // run c: step[c], shift[8 + c]
};

inline void k_steps(const uint8_t* b, float d, float dmin, KSteps& steps) {
  const KScales s = k_scales(b);
  const UCodes both = load_codes(s.scale);  // mins follow scales
  emit(both, d, steps.step);
  emit(both, -dmin, steps.shift);
  SONDE_IN_MEMORY(steps);
}

inline void k_scales_store(const KScales& s, uint8_t* b) {
  for (int j = 0; j < 4; ++j) {
    b[j] = uint8_t(s.scale[j] | s.scale[j + 4] >> 4 << 6);
    b[j + 4] = uint8_t(s.min[j] | s.min[j + 4] >> 4 << 6);
    b[j + 8] = uint8_t((s.scale[j + 4] & 15) | (s.min[j + 4] & 15) << 4);
  }
}

}  // namespace sonde::quant::SONDE_ISA
