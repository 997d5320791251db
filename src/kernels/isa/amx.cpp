// AMX: tiles of signed bytes multiplied into tiles of int32, of BF16 into tiles of floats, beside AVX-512 with VNNI.
// flags x86_64: -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c -mbmi2 -mprfchw -mprefer-vector-width=512 -mavx512vnni -mamx-tile -mamx-int8 -mamx-bf16
// flags x86_64 GNU: -Wno-uninitialized -Wno-maybe-uninitialized
#define SONDE_ISA amx
#include "kernels/isa/avx512.h"
#include "kernels/isa/attention512.h"
// (after Lanes)
#include "kernels/body/inline.h"
// (in this order)
#include "kernels/body/exp.h"
#include "kernels/body/strips.h"
#include "kernels/body/tile_shapes.h"

namespace sonde::kernels::SONDE_ISA {
namespace {

// Written as assembly: the compilers' own forms take the tiles' numbers as text.
struct Tiles {
  explicit Tiles(const TileShapes& shapes) { __asm__ volatile("ldtilecfg %0" ::"m"(shapes)); }
  ~Tiles() { __asm__ volatile("tilerelease"); }  // tiles in use cost every change of context
  Tiles(const Tiles&) = delete;
  template <int N>
  static SONDE_INLINE void zero() {
    __asm__ volatile("tilezero %%tmm%c0" ::"i"(N));
  }
  template <int N>
  static SONDE_INLINE void load(const void* p, int64_t stride) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "i"(N) : "memory");
  }
  // Past the first-level cache.
  template <int N>
  static SONDE_INLINE void load_once(const void* p, int64_t stride) {
    __asm__ volatile("tileloaddt1 (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "i"(N) : "memory");
  }
  template <int N>
  static SONDE_INLINE void store(void* p, int64_t stride) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(stride), "i"(N) : "memory");
  }
  // Sums += X W, X and W of signed bytes.
  template <int Sums, int X, int W>
  static SONDE_INLINE void multiply() {
    __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Sums), "i"(X), "i"(W));
  }
  // Sums += X W, X and W of BF16.
  template <int Sums, int X, int W>
  static SONDE_INLINE void multiply_pairs() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Sums), "i"(X), "i"(W));
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

namespace sonde::kernels::SONDE_ISA {
namespace {

// Products of full tiles into four tiles of sums, in turn.
template <class F>
int64_t burst(int64_t rounds, float* result, F&& multiply) {
  TileShapes shapes{};
  shapes.palette = 1;
  for (int i = 0; i < 6; ++i) shapes.rows[i] = 16, shapes.row_bytes[i] = 64;
  alignas(64) int32_t data[16][16] = {};
  data[0][0] = int32_t(*result);
  const Tiles tiles(shapes);
  Tiles::zero<0>(), Tiles::zero<1>(), Tiles::zero<2>(), Tiles::zero<3>();
  Tiles::load<4>(data, 64), Tiles::load<5>(data, 64);
  const int64_t products = rounds / 16 + 1;  // four take as long as sixteen rounds by vectors
  for (int64_t k = 0; k < products; ++k) multiply();
  Tiles::store<0>(data, 64);
  *result = float(data[0][0]);
  return products * 4 * 16 * 16 * 2;
}
int64_t int8_burst(int64_t rounds, float* result) {
  const auto multiply = [] {
    Tiles::multiply<0, 4, 5>(), Tiles::multiply<1, 4, 5>(), Tiles::multiply<2, 4, 5>(), Tiles::multiply<3, 4, 5>();
  };
  return burst(rounds, result, multiply) * 64;
}
int64_t bf16_burst(int64_t rounds, float* result) {
  const auto multiply = [] {
    Tiles::multiply_pairs<0, 4, 5>(), Tiles::multiply_pairs<1, 4, 5>();
    Tiles::multiply_pairs<2, 4, 5>(), Tiles::multiply_pairs<3, 4, 5>();
  };
  return burst(rounds, result, multiply) * 32;
}

bool runs(const CpuFeatures& f) { return f.amx_int8 && f.avx512_vnni; }
const KernelTable& table(const KernelTable* below, const CpuFeatures& f) {
  KernelTable& made = tile_table(*below);
  made.name = "amx", made.int8_burst = int8_burst;
  if (f.amx_bf16) {
    take_pairs(made), take_attention(made);
    made.gemm = &kGemmTiles, made.bf16_burst = bf16_burst;
  }
  return made;
}
const char* refused(const CpuFeatures& f) {
  return f.amx_refused ? "the processor has AMX, but the system refuses its tiles (arch_prctl)" : nullptr;
}

}  // namespace
extern const InstructionSet kSet{"amx", 50, runs, table, true, refused};
}  // namespace sonde::kernels::SONDE_ISA
