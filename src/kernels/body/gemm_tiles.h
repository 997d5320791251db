// C = op(A) op(B) (kernels/gemm.h) by tiles of BF16. 32 columns of sixteen rows of an operand are a block: sixteen
// pairs of each row, columns j and j + 16 side by side. Of op(A) it is [16 rows][16 pairs], of op(B)^T the other way
// round; an operand gives one of them as it lies in memory, and the other transposed. Beyond its last row and column
// stand zeros.
//
// op(A) is packed once, for all columns of C. Spans of op(B) are laid out in the first-level cache for each part of C,
// whose sums wait in the second-level cache meanwhile (gemm.cpp says how many). A sum over k: 32 products are one
// product of tiles (body/pair_tiles.h), those of the first sixteen columns and of the others apart; these are added in
// order.
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

// Sixteen values of a block as they lie in memory: row `row + i`, columns from `k` on; of one across, column `k + i`.
template <bool kWhole>
SONDE_INLINE Lanes block_run(const GemmOperand& o, int64_t row, int64_t k, int64_t i) {
  const int64_t r = o.across ? row : row + i, c = o.across ? k + i : k;
  const auto at = [&] { return o.across ? o.at + c * o.ld + r : o.at + r * o.ld + c; };
  if (kWhole) return load(at());
  const int64_t left = r >= o.rows || c >= o.cols ? 0 : o.across ? o.rows - r : o.cols - c;
  return left >= 16 ? load(at()) : left > 0 ? load_part(at(), left) : zero();
}

// `across`: [16 pairs][16 rows], else [16 rows][16 pairs].
SONDE_INLINE void lay_block(const GemmOperand& o, int64_t row, int64_t k, bool across, uint32_t* out) {
  alignas(64) uint32_t stored[16][16];
  uint32_t* const to = o.across == across ? out : stored[0];
  const int64_t second = o.across ? 16 : 0;  // the other half of the columns: by so many runs, or by sixteen values
  const auto fill = [&]<bool kWhole>() __attribute__((always_inline)) {
    for (int64_t i = 0; i < 16; ++i) {
      const Lanes others = block_run<kWhole>(o, row, k + 16 - second, i + second);
      store_nearest_pairs(to + 16 * i, block_run<kWhole>(o, row, k, i), others);
    }
  };
  row + 16 <= o.rows && k + 32 <= o.cols ? fill.template operator()<true>() : fill.template operator()<false>();
  if (to == out) return;
  const uint16_t* runs[16];
  for (int i = 0; i < 16; ++i) runs[i] = reinterpret_cast<const uint16_t*>(stored[i]);
  transpose_pairs(runs, 0, out, 16);
}

int64_t gemm_tile_bytes(const GemmOperand& o) { return rounded_up(o.cols, 32) * 32; }  // sixteen rows
int64_t gemm_packed_bytes(const GemmOperand& a) { return rounded_up(a.rows, 16) / 16 * gemm_tile_bytes(a); }

void gemm_pack(const GemmTask& t, int64_t row, int64_t row_end, float*) {
  for (; row < row_end; row += 16) {
    uint32_t* out = reinterpret_cast<uint32_t*>(t.packed + row / 16 * gemm_tile_bytes(t.a));
    for (int64_t k = 0; k < t.a.cols; k += 32, out += 256) lay_block(t.a, row, k, false, out);
  }
}

// C of a tile's rows, the part's columns. The sums of two strips are `pair_sums` behind those of the two before.
SONDE_INLINE void gemm_keep(const GemmTask& t, const GemmPart& part, int64_t row, const float* sums,
                            int64_t pair_sums) {
  const int64_t rows = t.a.rows - row < 16 ? t.a.rows - row : 16;
  for (int64_t i = 0; i < rows; ++i) {
    float* to = t.c + (row + i) * t.ldc + part.column;
    for (int64_t left = part.column_end - part.column, s = 0; left > 0; left -= 16, to += 16, ++s) {
      const Lanes sum = load(sums + 16 * i + s / 2 * pair_sums + s % 2 * 256);
      if (left >= 16) store(to, t.accumulate ? add(load(to), sum) : sum);
      else store_part(to, t.accumulate ? add(load_part(to, left), sum) : sum, left);
    }
  }
}

int64_t gemm_scratch(const GemmTask&, int64_t rows, int64_t columns) {
  return rounded_up(rows, 32) * rounded_up(columns, 32);
}

void gemm_multiply(const GemmTask& t, const GemmPart& part, float* sums) {
  alignas(64) uint8_t laid[2 * kLaidBytes];
  const Tiles tiles(pair_shapes(kTile));
  const int64_t tile_bytes = gemm_tile_bytes(t.a), pair_sums = rounded_up(part.row_end - part.row, 32) * 32;
  for (int64_t k = 0; k < t.b.cols; k += kSpan) {
    const int64_t steps = ((t.b.cols - k < kSpan ? t.b.cols - k : kSpan) + 31) / 32;
    float* to = sums;
    for (int64_t column = part.column; column < part.column_end; column += 32) {
      const int strips = column + 16 < part.column_end ? 2 : 1;
      for (int s = 0; s < strips; ++s) {
        uint32_t* const out = reinterpret_cast<uint32_t*>(laid + s * kLaidBytes);
        for (int64_t i = 0; i < steps; ++i) lay_block(t.b, column + 16 * s, k + 32 * i, true, out + 256 * i);
      }
      for (int64_t row = part.row; row < part.row_end; row += 32, to += 1024) {
        const uint8_t* const a = reinterpret_cast<const uint8_t*>(t.packed) + row / 16 * tile_bytes + 32 * k;
        const auto block = [&]<int X, int S>() __attribute__((always_inline)) {
          multiply_pair_block<X, S>(a, tile_bytes, laid, steps, kTile, k == 0, to);
        };
        const bool two = row + 16 < part.row_end;
        if (two) strips == 2 ? block.template operator()<2, 2>() : block.template operator()<2, 1>();
        else strips == 2 ? block.template operator()<1, 2>() : block.template operator()<1, 1>();
      }
    }
  }
  for (int64_t row = part.row; row < part.row_end; row += 16) {
    gemm_keep(t, part, row, sums + (row - part.row) * 32, pair_sums);
  }
}

constexpr GemmForm kGemmTiles{gemm_packed_bytes, gemm_pack, gemm_multiply, gemm_scratch};

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
