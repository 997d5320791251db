// Tiles as Intel's manual of instructions describes them (LDTILECFG, TILELOADD, TDPBSSD), in plain C++.
#define SONDE_ISA amx_model
#include "kernels/isa/avx512.h"
// (after Lanes)
#include "kernels/body/inline.h"
// (in this order)
#include "kernels/amx_model.h"
#include "kernels/body/strips.h"
#include "kernels/body/tile_shapes.h"

namespace sonde::kernels::SONDE_ISA {
namespace {

const char* fault = nullptr;
int holders = 0;

struct Processor {
  TileShapes shapes{};
  uint8_t tiles[8][16][64];
  bool holds = false;
};
thread_local Processor cpu;

void expect(bool right, const char* otherwise) {
  if (!right) __atomic_store_n(&fault, otherwise, __ATOMIC_RELAXED);
}

struct Tiles {
  explicit Tiles(const TileShapes& shapes) {
    expect(!cpu.holds, "tiles are configured twice");
    expect(shapes.palette == 1 && shapes.start_row == 0, "no such palette");
    for (int i = 0; i < 16; ++i) {
      const int rows = shapes.rows[i], bytes = shapes.row_bytes[i];
      expect(rows <= 16 && bytes <= 64 && (rows == 0) == (bytes == 0), "a shape that no tile has");
      expect(i < 8 || rows == 0, "there are eight tiles");
    }
    for (uint8_t unused : shapes.unused) expect(unused == 0, "what is reserved must be zero");
    cpu.shapes = shapes, cpu.holds = true;
    __builtin_memset(cpu.tiles, 0, sizeof cpu.tiles);
    __atomic_fetch_add(&holders, 1, __ATOMIC_RELAXED);
  }
  ~Tiles() {
    cpu.holds = false;
    __atomic_fetch_sub(&holders, 1, __ATOMIC_RELAXED);
  }
  Tiles(const Tiles&) = delete;
  static int rows(int n) { return cpu.shapes.rows[n]; }
  static int row_bytes(int n) { return cpu.shapes.row_bytes[n]; }
  static void expect_tile(int n) { expect(cpu.holds && rows(n) > 0, "a tile without a shape"); }

  template <int N>
  static void zero() {
    expect_tile(N);
    __builtin_memset(cpu.tiles[N], 0, sizeof cpu.tiles[N]);
  }
  template <int N>
  static void load(const void* p, int64_t stride) {
    zero<N>();
    for (int r = 0; r < rows(N); ++r) {
      __builtin_memcpy(cpu.tiles[N][r], static_cast<const uint8_t*>(p) + r * stride, std::size_t(row_bytes(N)));
    }
  }
  template <int N>
  static void store(void* p, int64_t stride) {
    expect_tile(N);
    for (int r = 0; r < rows(N); ++r) {
      __builtin_memcpy(static_cast<uint8_t*>(p) + r * stride, cpu.tiles[N][r], std::size_t(row_bytes(N)));
    }
  }
  template <int Sums, int X, int W>
  static void multiply() {
    expect_tile(Sums), expect_tile(X), expect_tile(W);
    expect(Sums != X && Sums != W && X != W, "tiles of a product must differ");
    expect(rows(Sums) == rows(X) && row_bytes(X) == 4 * rows(W) && row_bytes(W) == row_bytes(Sums),
           "shapes of a product that do not match");
    const int columns = row_bytes(Sums) / 4;
    for (int m = 0; m < rows(Sums); ++m) {
      int32_t sums[16];
      __builtin_memcpy(sums, cpu.tiles[Sums][m], sizeof sums);
      for (int k = 0; k < rows(W); ++k) {
        for (int n = 0; n < columns; ++n) {
          for (int j = 0; j < 4; ++j)
            sums[n] += int8_t(cpu.tiles[X][m][4 * k + j]) * int8_t(cpu.tiles[W][k][4 * n + j]);
        }
      }
      __builtin_memcpy(cpu.tiles[Sums][m], sums, sizeof sums);
    }
  }
};

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA

// (after Tiles)
#include "kernels/body/tiles.h"

namespace sonde::kernels {

const char* amx_model_fault() { return __atomic_load_n(&amx_model::fault, __ATOMIC_RELAXED); }
int amx_model_holders() { return __atomic_load_n(&amx_model::holders, __ATOMIC_RELAXED); }

const KernelTable& amx_model_table(const KernelTable& fewer) {
  KernelTable& table = amx_model::tile_table(fewer);
  table.name = "amx_model";
  return table;
}

}  // namespace sonde::kernels
