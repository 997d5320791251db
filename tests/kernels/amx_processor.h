// A processor's tiles as Intel's manual of instructions describes them (LDTILECFG, TILELOADD, TDPBSSD, TDPBF16PS), in plain
// C++, one set a thread.
#pragma once

#include <cstdint>

#include "kernels/body/tile_shapes.h"

namespace sonde::test::amx {

void configure(const kernels::TileShapes& shapes);
void release();
void zero(int tile);
void load(int tile, const void* p, int64_t stride);
void store(int tile, void* p, int64_t stride);
void multiply(int sums, int a, int b);        // signed bytes
void multiply_pairs(int sums, int a, int b);  // of BF16

// What was asked for that a processor refuses; null: nothing.
const char* fault();
// How many threads hold tiles.
int holders();

// From now on an instruction for tiles that this processor does not have is done by the functions above.
void serve_instructions();
// How many have been.
int64_t served();

}  // namespace sonde::test::amx
