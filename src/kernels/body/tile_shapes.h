// How many rows of how many bytes each of the eight tiles has: what LDTILECFG reads (Intel's manual of instructions,
// vol. 1, 18.3).
#pragma once

#include <cstdint>

namespace sonde::kernels {

struct TileShapes {
  uint8_t palette, start_row, unused[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(TileShapes) == 64);

}  // namespace sonde::kernels
