#include "kernels/amx_processor.h"

#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>

namespace sonde::test::amx {
namespace {

std::atomic<const char*> first_fault{nullptr};
std::atomic<int> holding{0};

struct Processor {
  kernels::TileShapes shapes{};
  uint8_t tiles[8][16][64];
  bool holds = false;
};
thread_local Processor cpu;

void expect(bool right, const char* otherwise) {
  if (!right) first_fault = otherwise;
}
int rows(int n) { return cpu.shapes.rows[n]; }
int row_bytes(int n) { return cpu.shapes.row_bytes[n]; }
void expect_tile(int n) { expect(cpu.holds && rows(n) > 0, "a tile without a shape"); }

void expect_product(int sums, int a, int b) {
  expect_tile(sums), expect_tile(a), expect_tile(b);
  expect(sums != a && sums != b && a != b, "tiles of a product must differ");
  expect(rows(sums) == rows(a) && row_bytes(a) == 4 * rows(b) && row_bytes(b) == row_bytes(sums),
         "shapes of a product that do not match");
}

// Denormal inputs count as zeros, and denormal results become zeros.
inline float flushed(float x) { return std::abs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }

void split_pairs(const uint8_t (&row)[64], float (&first)[16], float (&second)[16]) {
  for (int i = 0; i < 16; ++i) {
    uint32_t both;
    std::memcpy(&both, row + 4 * i, 4);
    first[i] = flushed(std::bit_cast<float>(both << 16)), second[i] = flushed(std::bit_cast<float>(both & 0xFFFF0000));
  }
}

}  // namespace

const char* fault() { return first_fault; }
int holders() { return holding; }

void configure(const kernels::TileShapes& shapes) {
  expect(!cpu.holds, "tiles are configured twice");
  expect(shapes.palette == 1 && shapes.start_row == 0, "no such palette");
  for (int i = 0; i < 16; ++i) {
    const int count = shapes.rows[i], bytes = shapes.row_bytes[i];
    expect(count <= 16 && bytes <= 64 && (count == 0) == (bytes == 0), "a shape that no tile has");
    expect(i < 8 || count == 0, "there are eight tiles");
  }
  for (uint8_t unused : shapes.unused) expect(unused == 0, "what is reserved must be zero");
  cpu.shapes = shapes, cpu.holds = true;
  std::memset(cpu.tiles, 0, sizeof cpu.tiles);
  ++holding;
}

void release() {
  expect(cpu.holds, "nothing to release");
  cpu.holds = false, --holding;
}

void zero(int tile) {
  expect_tile(tile);
  std::memset(cpu.tiles[tile], 0, sizeof cpu.tiles[tile]);
}

void load(int tile, const void* p, int64_t stride) {
  zero(tile);
  for (int r = 0; r < rows(tile); ++r) {
    std::memcpy(cpu.tiles[tile][r], static_cast<const uint8_t*>(p) + r * stride, std::size_t(row_bytes(tile)));
  }
}

void store(int tile, void* p, int64_t stride) {
  expect_tile(tile);
  for (int r = 0; r < rows(tile); ++r) {
    std::memcpy(static_cast<uint8_t*>(p) + r * stride, cpu.tiles[tile][r], std::size_t(row_bytes(tile)));
  }
}

void multiply(int sums, int a, int b) {
  expect_product(sums, a, b);
  const int columns = row_bytes(sums) / 4;
  for (int m = 0; m < rows(sums); ++m) {
    int32_t row[16];
    std::memcpy(row, cpu.tiles[sums][m], sizeof row);
    for (int k = 0; k < rows(b); ++k) {
      for (int n = 0; n < columns; ++n) {
        for (int j = 0; j < 4; ++j) row[n] += int8_t(cpu.tiles[a][m][4 * k + j]) * int8_t(cpu.tiles[b][k][4 * n + j]);
      }
    }
    std::memcpy(cpu.tiles[sums][m], row, sizeof row);
  }
}

// The operation of TDPBF16PS in the manual (vol. 2): the first values of all pairs are added up by fused multiply-adds in
// their order, from zero, and so are the second ones; then first + second, and only that is added to the sum. Rounded to
// nearest even, MXCSR aside.
__attribute__((target("fma"))) void multiply_pairs(int sums, int a, int b) {
  expect_product(sums, a, b);
  float b_first[16][16], b_second[16][16];
  for (int k = 0; k < rows(b); ++k) split_pairs(cpu.tiles[b][k], b_first[k], b_second[k]);
  for (int m = 0; m < rows(sums); ++m) {
    float a_first[16], a_second[16], first[16] = {}, second[16] = {}, sum[16];
    split_pairs(cpu.tiles[a][m], a_first, a_second);
    for (int k = 0; k < rows(b); ++k) {
      for (int n = 0; n < 16; ++n) {
        first[n] = flushed(__builtin_fmaf(a_first[k], b_first[k][n], first[n]));
        second[n] = flushed(__builtin_fmaf(a_second[k], b_second[k][n], second[n]));
      }
    }
    std::memcpy(sum, cpu.tiles[sums][m], sizeof sum);
    for (int n = 0; n < row_bytes(sums) / 4; ++n) sum[n] = flushed(flushed(sum[n]) + flushed(first[n] + second[n]));
    std::memcpy(cpu.tiles[sums][m], sum, sizeof sum);
  }
}

}  // namespace sonde::test::amx
