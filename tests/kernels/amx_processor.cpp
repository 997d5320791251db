#include "kernels/amx_processor.h"

#include <atomic>
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

void multiply(int sums, int x, int w) {
  expect_tile(sums), expect_tile(x), expect_tile(w);
  expect(sums != x && sums != w && x != w, "tiles of a product must differ");
  expect(rows(sums) == rows(x) && row_bytes(x) == 4 * rows(w) && row_bytes(w) == row_bytes(sums),
         "shapes of a product that do not match");
  const int columns = row_bytes(sums) / 4;
  for (int m = 0; m < rows(sums); ++m) {
    int32_t row[16];
    std::memcpy(row, cpu.tiles[sums][m], sizeof row);
    for (int k = 0; k < rows(w); ++k) {
      for (int n = 0; n < columns; ++n) {
        for (int j = 0; j < 4; ++j) row[n] += int8_t(cpu.tiles[x][m][4 * k + j]) * int8_t(cpu.tiles[w][k][4 * n + j]);
      }
    }
    std::memcpy(cpu.tiles[sums][m], row, sizeof row);
  }
}

}  // namespace sonde::test::amx
