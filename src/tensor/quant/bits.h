// Loads and exact conversions that every block format needs.
//
// The headers of this folder may be compiled once for each instruction set: a file defines SONDE_ISA before including
// them and gets the same code in namespace sonde::quant::SONDE_ISA. So nothing here may be shared between those copies:
// no std:: templates, no inline variables outside the namespace.
#pragma once

#include <cstddef>
#include <cstdint>
#ifdef __F16C__
#include <immintrin.h>
#endif
#ifdef SONDE_NEON
#include <arm_neon.h>
#endif

#ifndef SONDE_ISA
#define SONDE_ISA portable
#endif

namespace sonde::quant::SONDE_ISA {

inline const uint8_t* as_bytes(const std::byte* p) { return reinterpret_cast<const uint8_t*>(p); }
inline uint8_t* as_bytes(std::byte* p) { return reinterpret_cast<uint8_t*>(p); }

template <class T>
inline T load(const uint8_t* p) {
  T value;
  __builtin_memcpy(&value, p, sizeof value);
  return value;
}
template <class T>
inline void store(uint8_t* p, T value) {
  __builtin_memcpy(p, &value, sizeof value);
}

inline float float_of(uint32_t bits) { return __builtin_bit_cast(float, bits); }
inline uint32_t bits_of(float value) { return __builtin_bit_cast(uint32_t, value); }

// IEEE half to float. No float denormal occurs on the way, so the result does not depend on DAZ or FTZ.
inline float half_to_float(uint16_t h) {
#ifdef __F16C__
  return _cvtsh_ss(h);
#elif defined(SONDE_NEON)
  return float(__builtin_bit_cast(float16_t, h));
#else
  const int32_t magnitude = h & 0x7FFF;
  const uint32_t tiny = bits_of(float(magnitude) * 0x1p-24f), is_tiny = uint32_t((magnitude - 0x0400) >> 31);
  const uint32_t is_huge = uint32_t((0x7BFF - magnitude) >> 31);  // infinity and NaN
  const uint32_t normal = (uint32_t(magnitude) << 13) + (112u << 23) + (112u << 23 & is_huge);
  return float_of((tiny & is_tiny) | (normal & ~is_tiny) | uint32_t(h & 0x8000) << 16);
#endif
}
inline float half(const uint8_t* p) { return half_to_float(load<uint16_t>(p)); }

// Nearest half, ties to even; beyond 65504 + half a step: infinity.
inline uint16_t float_to_half(float value) {
#ifdef __F16C__
  return uint16_t(_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT));
#else
  const uint32_t bits = bits_of(value), magnitude = bits & 0x7FFFFFFFu, sign = bits >> 16 & 0x8000u;
  uint32_t h;
  if (magnitude > 0x7F800000u) {
    h = 0x7E00u | (magnitude >> 13 & 0x1FFu);  // NaN, quiet
  } else if (magnitude >= 0x47800000u) {
    h = 0x7C00u;
  } else if (magnitude < 0x38800000u) {
    h = bits_of(float_of(magnitude) + 0.5f) - 0x3F000000u;  // a step of 0.5 is a step of half's denormals
  } else {
    h = (magnitude - (112u << 23) + 0xFFFu + (magnitude >> 13 & 1u)) >> 13;
  }
  return uint16_t(h | sign);
#endif
}

// The integer part of v, which is brought between the bounds first; NaN gives the lower one.
inline int clamped(float v, int low, int high) {
  return int(v > float(low) ? (v < float(high) ? v : float(high)) : float(low));
}

inline float bfloat_to_float(uint16_t b) { return float_of(uint32_t(b) << 16); }
inline uint16_t float_to_bfloat(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t nearest = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
  return uint16_t((bits & 0x7FFFFFFFu) > 0x7F800000u ? (bits >> 16 | 64u) : nearest);
}

// 2^(b - 127); 0xFF is NaN.
inline float e8m0_to_float(uint8_t b) {
  const uint32_t bits = b == 0 ? 0x00400000u : uint32_t(b) << 23;
  return float_of(b == 0xFF ? 0x7FC00000u : bits);
}

// Half of that, for tables that hold twice the values: 2^(b - 128).
inline float half_e8m0(uint8_t b) { return float_of(b < 2 ? 0x00200000u << b : uint32_t(b - 1) << 23); }

}  // namespace sonde::quant::SONDE_ISA
