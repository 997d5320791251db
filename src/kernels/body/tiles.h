// Products in integers by matrix tiles: the sums of body/strips.h, bit for bit, for many tokens. A run of 32 columns (a
// half of one, where these have scales) is one product of tiles: x [T tokens][32 bytes] times W [8 groups][16 rows][4]
// gives int32 [T][16]. W is unpacked once for all tokens, so many runs at a time as fit the first-level cache beside x.
//
// `Tiles` is the instruction set's: it holds the processor's eight tiles while it lives, in the shapes given.
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

constexpr int kTile = 16;                       // tokens, and rows
constexpr int64_t kTileFrom = kStripAlone + 1;  // fewer tokens go by vectors, which read memory in longer runs
constexpr int64_t kUnpacked = 32;               // runs of W unpacked at once: 20 KiB

const KernelTable* fewer;  // serves fewer tokens

// Numbers of tiles: of sums (two, so that one is filled while the other is read) and x for whole tiles of tokens, the
// same for the last tokens, of W (two).
constexpr int kSums = 0, kX = 2, kRestSums = 3, kRestX = 5, kW = 6;

TileShapes shapes(int rest, int bytes) {
  TileShapes s{};
  s.palette = 1;
  const auto set_shape = [&](int tile, int rows, int row_bytes) {
    s.rows[tile] = uint8_t(rows), s.row_bytes[tile] = rows > 0 ? uint16_t(row_bytes) : uint16_t{0};
  };
  for (int side = 0; side < 2; ++side) {
    set_shape(kSums + side, kTile, 64), set_shape(kRestSums + side, rest, 64), set_shape(kW + side, bytes / 4, 64);
  }
  set_shape(kX, kTile, bytes), set_shape(kRestX, rest, bytes);
  return s;
}

// A run of W unpacked: bytes [8 groups][16 rows][4], scales [halves][16], minima [16] where there are any.
constexpr int unpacked_bytes(int halves, bool min) { return 512 + 64 * (halves + (min ? 1 : 0)); }

template <class Reader>
void unpack_block(const uint8_t* w, uint8_t* out) {
  const typename Reader::Block block = Reader::block(w);
#pragma GCC unroll 1
  for (int run = 0; run < Reader::kRuns; ++run, out += unpacked_bytes(Reader::kHalves, Reader::kMin)) {
    for (int g = 0; g < 8; ++g) store_quads(out + 64 * g, less(Reader::group(w, run, g), Reader::kZero));
    float* const scales = reinterpret_cast<float*>(out + 512);
    for (int h = 0; h < Reader::kHalves; ++h) store(scales + 16 * h, Reader::scale(block, w, run, h));
    if constexpr (Reader::kMin) store(scales + 16, Reader::least(block, w, run));
  }
}

// Product i of the runs: run i, or half i % 2 of run i / 2.
template <int kHalves, bool kMin, int T>
struct TileProduct {
  static constexpr int kRest = T < kTile, kMySums = kRest ? kRestSums : kSums, kMyX = kRest ? kRestX : kX;
  const uint8_t *w, *x;
  int half;
  SONDE_INLINE TileProduct(const uint8_t* runs, const uint8_t* tokens, int64_t i) {
    const int64_t run = i / kHalves;
    w = runs + run * unpacked_bytes(kHalves, kMin), x = tokens + run * run_bytes(T, kHalves), half = int(i % kHalves);
  }
  template <int kSide>
  SONDE_INLINE void multiply() const {
    Tiles::zero<kMySums + kSide>();
    Tiles::load<kMyX>(x + 16 * half, 32);
    Tiles::load<kW + kSide>(w + 256 * half, 64);
    Tiles::multiply<kMySums + kSide, kMyX, kW + kSide>();
  }
  template <int kSide>
  static SONDE_INLINE void keep(int32_t (&sums)[T][16]) {
    Tiles::store<kMySums + kSide>(sums, 64);
  }

  SONDE_INLINE void add_to(Lanes (&acc)[T], const int32_t (&sums)[T][16]) const {
    const float* const scales = reinterpret_cast<const float*>(w + 512);
    const Lanes scale = load(scales + 16 * half), least = kMin ? load(scales + 16) : zero();
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
      acc[t] = fma(load_integers(sums[t]), mul(scale, set_from(x + 32 * T + 4 * t)), acc[t]);
      if constexpr (kMin) acc[t] = fma(least, set_from(x + 36 * T + 4 * t), acc[t]);
    }
  }
};

// total[t] += the products of some runs of W and T tokens. While the sums of one are scaled the next is being
// multiplied, and `lines` of memory are called for, some at a time: more than are under way at once would have to wait.
template <int kHalves, bool kMin, int T>
void add_runs(const uint8_t* w, int64_t runs, const uint8_t* x, float (*total)[16], const uint8_t* ahead, int64_t lines) {
  using Product = TileProduct<kHalves, kMin, T>;
  alignas(64) int32_t even[T][16], odd[T][16];
  Lanes acc[T];
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) acc[t] = load(total[t]);
  const int64_t count = runs * kHalves, each = (2 * lines + count - 1) / count;
  const uint8_t* const ahead_end = ahead + 64 * lines;
  Product(w, x, 0).template multiply<0>();
  Product::template keep<0>(even);
  for (int64_t i = 0; i < count; i += 2) {
    const bool second = i + 1 < count, third = i + 2 < count;
    for (int64_t line = 0; line < each && ahead < ahead_end; ++line, ahead += 64) __builtin_prefetch(ahead, 0, 2);
    if (second) Product(w, x, i + 1).template multiply<1>();
    Product(w, x, i).add_to(acc, even);
    if (!second) break;
    Product::template keep<1>(odd);
    if (third) Product(w, x, i + 2).template multiply<0>();
    Product(w, x, i + 1).add_to(acc, odd);
    if (third) Product::template keep<0>(even);
  }
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) store(total[t], acc[t]);
}

// total [tokens][16] = strip w times the tokens of x, which stand in tiles of sixteen and a rest.
template <class Reader>
void sum_strip(const uint8_t* w, int64_t blocks, const uint8_t* x, int64_t tokens, float (*total)[16]) {
  constexpr int kHalves = Reader::kHalves;
  constexpr int64_t kBlocks = kUnpacked / Reader::kRuns, kLines = kBlocks * Reader::kBytes / 64;
  alignas(64) uint8_t unpacked[kUnpacked * unpacked_bytes(kHalves, Reader::kMin)];
  const int64_t token_bytes = blocks * Reader::kRuns * run_bytes(1, kHalves), tiles = (tokens + kTile - 1) / kTile;
  for (int64_t t = 0; t < tokens; ++t) store(total[t], zero());
  for (int64_t n, b = 0; b < blocks; b += n, w += n * Reader::kBytes) {
    n = blocks - b < kBlocks ? blocks - b : kBlocks;
    for (int64_t i = 0; i < n; ++i) {
      unpack_block<Reader>(w + i * Reader::kBytes,
                           unpacked + i * Reader::kRuns * unpacked_bytes(kHalves, Reader::kMin));
    }
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t line = kLines * tile / tiles, lines = kLines * (tile + 1) / tiles - line;
      const int64_t token = tile * kTile, count = tokens - token < kTile ? tokens - token : kTile;
      with_count<kTile>(count, [&]<int T>() {
        const uint8_t* const at = x + token * token_bytes + b * Reader::kRuns * run_bytes(T, kHalves);
        add_runs<kHalves, Reader::kMin, T>(unpacked, n * Reader::kRuns, at, total + token, w + n * Reader::kBytes + 64 * line, lines);
      });
    }
  }
}

// Tokens in groups whose bytes stay in the second-level cache while the strips pass.
template <class Reader>
void multiply_by_tiles(const StripTask& task, int64_t begin, int64_t end) {
  constexpr int64_t kResident = 1 << 20, kMost = 512;  // bytes, tokens
  const int64_t token_bytes = task.blocks * Reader::kRuns * run_bytes(1, Reader::kHalves);
  const int64_t fitting = kResident / token_bytes / kTile * kTile;
  const int64_t together = fitting < kTile ? kTile : fitting < kMost ? fitting : kMost;
  const Tiles tiles(shapes(int(task.m % kTile), 32 / Reader::kHalves));
  alignas(64) float total[kMost][16], ups[kMost][16];
  for (int64_t first = 0; first < task.m; first += together) {
    const int64_t tokens = task.m - first < together ? task.m - first : together;
    const uint8_t* const x = reinterpret_cast<const uint8_t*>(task.x) + first * token_bytes;
    for (int64_t strip = begin; strip < end; ++strip) {
      const auto at = [&](const std::byte* w) {
        return reinterpret_cast<const uint8_t*>(w) + strip * task.strip_bytes;
      };
      sum_strip<Reader>(at(task.w), task.blocks, x, tokens, total);
      if (task.up != nullptr) {
        sum_strip<Reader>(at(task.up), task.blocks, x, tokens, ups);
        fewer->silu_mul(total[0], ups[0], total[0], tokens * 16);
      }
      const int64_t row = strip * 16, rows = task.rows - row < 16 ? task.rows - row : 16;
      const Lanes bias = task.bias == nullptr ? zero() : load_part(task.bias + row, rows);
      for (int64_t t = 0; t < tokens; ++t) {
        const Lanes out = task.bias == nullptr ? load(total[t]) : add(load(total[t]), bias);
        store_part(task.y + (first + t) * task.ldy + row, out, rows);
      }
    }
  }
}

// --- the table --------------------------------------------------------------------------------------------------
template <class Q>
void (*few)(const StripTask& task, int64_t begin, int64_t end);

template <class Q>
void multiply_type(const StripTask& task, int64_t begin, int64_t end) {
  if (task.m < kTileFrom) return few<Q>(task, begin, end);
  multiply_by_tiles<StripReader<Q>>(task, begin, end);
}
template <class Q>
void take_type(StripType& type) {
  if constexpr (requires { typename Q::Strip; }) few<Q> = type.multiply, type.multiply = multiply_type<Q>;
}

int64_t token_tile_count(int64_t m) { return m < kTileFrom ? fewer->tile_count(m) : (m + kTile - 1) / kTile; }

void round_token_tiles(const StripInput& in, int64_t begin, int64_t end) {
  if (in.m < kTileFrom) return fewer->round_tiles(in, begin, end);
  for (int64_t first = begin * kTile; first < end * kTile && first < in.m; first += kTile) {
    uint8_t* const out = reinterpret_cast<uint8_t*>(in.out) + first * ((in.cols + 31) / 32) * run_bytes(1, in.halves);
    round_tile(in, first, in.m - first < kTile ? in.m - first : kTile, out);
  }
}

void multiply_panels(const PanelTask& task, int64_t begin, int64_t end, std::byte* scratch) {
  if (task.m < kTileFrom) return fewer->panels(task, begin, end, scratch);
  const int64_t bytes = fewer->panel_bytes(task.w.cols), first = begin * 16;
  for (int64_t strip = begin; strip < end; ++strip) {
    std::byte* const panel = scratch + (strip - begin) * bytes;
    fewer->fill_panel(task.w, strip, panel);
    if (task.up.data != nullptr) fewer->fill_panel(task.up, strip, panel + (end - begin) * bytes);
  }
  const std::byte* const up = task.up.data == nullptr ? nullptr : scratch + (end - begin) * bytes;
  const float* const bias = task.bias == nullptr ? nullptr : task.bias + first;
  multiply_by_tiles<PanelReader>({scratch, up, task.w.rows - first, bytes / PanelReader::kBytes, bytes, task.x, task.m,
                                  task.y + first, task.ldy, bias},
                                 0, end - begin);
}

constexpr int kTypes = 0
#define SONDE_ROW(T) +1
    SONDE_TYPES(SONDE_ROW)
#undef SONDE_ROW
    ;
StripType strip_types[kTypes];
KernelTable tile_kernels{};

KernelTable& tile_table(const KernelTable& served) {
  fewer = &served, tile_kernels = served;
  // Not folded for prompts: by count of instructions that takes as long for sixteen rows as tiles take for fifty tokens.
  for (int i = 0; i < kTypes; ++i) strip_types[i] = served.strips[i], strip_types[i].prompt = nullptr;
  StripType* type = strip_types;
#define SONDE_ROW(T) take_type<q::T>(*type++);
  SONDE_TYPES(SONDE_ROW)
#undef SONDE_ROW
  tile_kernels.strips = strip_types, tile_kernels.panels = multiply_panels;
  tile_kernels.round_tiles = round_token_tiles, tile_kernels.tile_count = token_tile_count;
  return tile_kernels;
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
