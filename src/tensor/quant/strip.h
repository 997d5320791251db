// The packed form for integer kernels: sixteen rows side by side, block by block, scales as bytes beside their block.
//
// A type says how in a nested `Strip`: bits of a code; the code that stands for 0; whether blocks have a minimum; columns
// under one sub-scale (0: the block has one scale alone), signed bytes; kTable: values of its codes.
// `split` takes one block apart.
//
// A block of a strip, 16 rows: [d: 16 halves, or E8M0 bytes][m: 16 halves][sub-scales: n x 16 bytes][sub-mins: n x 16]
// then for every 32 columns, in groups g of 4 columns with 4 bytes a row (64 bytes, "quads"):
//   8 bits: quads of g = 0 ... 7
//   4 bits: quads v = 0 ... 3 hold group 2v in the low nibbles, 2v + 1 in the high ones; then the bits above:
//   5: one quad, bit g belongs to group g     6: two quads, bits 2i and 2i + 1 of quad q belong to group 4q + i
#pragma once

#include "tensor/quant/codes.h"

namespace sonde::quant::SONDE_ISA {

inline constexpr int kStripRows = 16;

// One block of one row, taken apart.
struct Split {
  uint16_t d = 0, m = 0;  // halves (d: an E8M0 byte where the type says so); value = d * scale * (code - zero) + m * min
  uint8_t scale[16] = {}, min[8] = {};
  uint8_t codes[256] = {};
};

// Defaults that a type's Strip derives from.
struct StripOf {
  static constexpr int kZero = 0;            // code of the value 0; 128 also where a table's values are signed bytes
  static constexpr int kSub = 0;             // columns of a sub-scale
  static constexpr bool kMin = false;        // m, and sub-mins where there are sub-scales
  static constexpr bool kE8m0 = false;       // d is the exponent of half_e8m0
  static constexpr bool kHasTable = false;   // kTable: the value of each 4-bit code
  static constexpr const int8_t* kTable = nullptr;
};

template <class Q>
struct StripLayout {
  using S = typename Q::Strip;
  static constexpr int kRuns = Q::kBlock / 32;                               // of 32 columns
  static constexpr int kHalves = S::kSub == 16 ? 2 : 1;                      // sub-scales of a run
  static constexpr int kSubScales = S::kSub > 0 ? Q::kBlock / S::kSub : 0;
  static constexpr int kM = 16 * (S::kE8m0 ? 1 : 2);                         // offsets
  static constexpr int kScales = kM + (S::kMin ? 32 : 0);
  static constexpr int kMins = kScales + 16 * kSubScales;
  static constexpr int kCodes = kMins + (S::kMin ? 16 * kSubScales : 0);
  static constexpr int kRunBytes = 64 * S::kBits;                            // 16 rows x 32 columns
  static constexpr int kBytes = kCodes + kRuns * kRunBytes;                  // 16 rows x one block
};

// Sixteen rows (null: a row of zeros) of `blocks` blocks. False: a scale is not finite.
template <class Q>
bool pack_strip(const std::byte* const* rows, int64_t blocks, std::byte* out) {
  using S = typename Q::Strip;
  using L = StripLayout<Q>;
  Split split[kStripRows];
  for (Split& s : split) __builtin_memset(s.codes, S::kZero, sizeof s.codes);
  bool finite = true;
  uint8_t* p = as_bytes(out);
  for (int64_t b = 0; b < blocks; ++b, p += L::kBytes) {
    for (int r = 0; r < kStripRows; ++r) {
      Split& s = split[r];
      if (rows[r] != nullptr) Q::split(rows[r] + b * Q::kBytes, s);
      if (S::kE8m0) {
        finite = finite && s.d != 0xFF;
        p[r] = uint8_t(s.d);
      } else {
        finite = finite && (s.d & 0x7C00) != 0x7C00 && (s.m & 0x7C00) != 0x7C00;
        store(p + 2 * r, s.d);
      }
      if (S::kMin) store(p + L::kM + 2 * r, s.m);
      for (int i = 0; i < L::kSubScales; ++i) {
        p[L::kScales + 16 * i + r] = s.scale[i];
        if (S::kMin) p[L::kMins + 16 * i + r] = s.min[i];
      }
    }
    for (int run = 0; run < L::kRuns; ++run) {
      uint8_t* const quads = p + L::kCodes + run * L::kRunBytes;
      for (int r = 0; r < kStripRows; ++r) {
        uint32_t g[8];
        __builtin_memcpy(g, split[r].codes + 32 * run, sizeof g);
        if constexpr (S::kBits == 8) {
          for (int i = 0; i < 8; ++i) store(quads + 64 * i + 4 * r, g[i]);
        } else {
          for (int v = 0; v < 4; ++v) {
            store(quads + 64 * v + 4 * r, (g[2 * v] & 0x0F0F0F0Fu) | (g[2 * v + 1] & 0x0F0F0F0Fu) << 4);
          }
          if constexpr (S::kBits == 5) {
            uint32_t high = 0;
            for (int i = 0; i < 8; ++i) high |= (g[i] >> 4 & 0x01010101u) << i;
            store(quads + 256 + 4 * r, high);
          }
          if constexpr (S::kBits == 6) {
            for (int q = 0; q < 2; ++q) {
              uint32_t high = 0;
              for (int i = 0; i < 4; ++i) high |= (g[4 * q + i] >> 4 & 0x03030303u) << 2 * i;
              store(quads + 256 + 64 * q + 4 * r, high);
            }
          }
        }
      }
    }
  }
  return finite;
}

}  // namespace sonde::quant::SONDE_ISA
