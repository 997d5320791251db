// The kernels of AMX over a model of its tiles.
#define SONDE_ISA amx_model
#include "kernels/isa/avx512.h"
#include "kernels/isa/attention512.h"
// (after Lanes)
#include "kernels/body/inline.h"
// (in this order)
#include "kernels/amx_model.h"
#include "kernels/amx_processor.h"
#include "kernels/body/exp.h"
#include "kernels/body/strips.h"
#include "kernels/body/tile_shapes.h"

namespace sonde::kernels::SONDE_ISA {
namespace {

struct Tiles {
  explicit Tiles(const TileShapes& shapes) { test::amx::configure(shapes); }
  ~Tiles() { test::amx::release(); }
  Tiles(const Tiles&) = delete;
  template <int N>
  static void zero() {
    test::amx::zero(N);
  }
  template <int N>
  static void load(const void* p, int64_t stride) {
    test::amx::load(N, p, stride);
  }
  template <int N>
  static void load_once(const void* p, int64_t stride) {
    test::amx::load(N, p, stride);
  }
  template <int N>
  static void store(void* p, int64_t stride) {
    test::amx::store(N, p, stride);
  }
  template <int Sums, int X, int W>
  static void multiply() {
    test::amx::multiply(Sums, X, W);
  }
  template <int Sums, int X, int W>
  static void multiply_pairs() {
    test::amx::multiply_pairs(Sums, X, W);
  }
};

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA

// (after Tiles)
#include "kernels/body/tiles.h"
// (in this order)
#include "kernels/body/pair_tiles.h"
#include "kernels/body/gemm_tiles.h"
#include "kernels/body/pair_weights.h"
#include "kernels/body/segment_tiles.h"

namespace sonde::kernels {

const KernelTable& amx_model_table(const KernelTable& fewer) {
  KernelTable& table = amx_model::tile_table(fewer);
  table.name = "amx_model";
  amx_model::take_pairs(table), amx_model::take_attention(table);
  table.gemm = &amx_model::kGemmTiles;
  return table;
}

}  // namespace sonde::kernels
