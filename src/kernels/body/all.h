// The kernels, written once over sixteen lanes. isa/NAME.cpp defines SONDE_ISA and Lanes before it includes this.
// No include guard's worth of sharing: each copy lives in its own anonymous namespace.
#pragma once

#include "kernels/body/tile.h"
// (in this order)
#include "kernels/body/matmul.h"
#include "kernels/body/exp.h"
#include "kernels/body/silu.h"
#include "kernels/body/rows.h"
// (after exp_lanes)
#include "kernels/body/attention.h"
#include "kernels/body/strips.h"
#include "kernels/body/strip_products.h"
#include "kernels/body/panels.h"
#include "kernels/body/parts.h"
#include "kernels/body/segment.h"
#include "kernels/body/peaks.h"

namespace sonde::kernels::SONDE_ISA {
namespace {

template <class T>
constexpr Unpack unpack_of() {
  if constexpr (requires { &T::unpack; }) return &T::unpack;
  return nullptr;
}
constexpr Unpack kUnpack[] = {
#define SONDE_ROW(T) unpack_of<quant::SONDE_ISA::T>(),
    SONDE_TYPES(SONDE_ROW)
#undef SONDE_ROW
};

#define SONDE_TEXT_(x) #x
#define SONDE_TEXT(x) SONDE_TEXT_(x)
constexpr KernelTable kTable = {
    .name = SONDE_TEXT(SONDE_ISA),
#if defined(__AVX512F__)
    .wide = true,
#endif
    .unpack = kUnpack,
    .dot = dot,
    .matmul = matmul,
    .matmul_scratch = matmul_scratch,
    .matmul_grain = kPanelRows,
    .strips = kStripTypes,
    .round_tiles = round_tiles,
    .tile_count = tile_count,
    .panel_bytes = panel_bytes,
    .fill_panel = fill_panel,
    .panels = multiply_panels,
    .pair_parts = nullptr,
    .round_pairs = nullptr,
    .pairs = nullptr,
    .attention = attention,
    .attention_scratch = attention_scratch,
    .attention_segment = attention_segment,
    .segment_scratch = segment_scratch,
    .join_part = join_part,
    .finish_part = finish_part,
    .to_bf16 = to_bf16,
    .rotate = rotate,
    .rotate_exact = rotate_exact,
    .rms_norm = rms_norm,
    .silu_mul = silu_mul,
    .add_scaled = add_scaled,
    .softmax = softmax,
    .sigmoid = sigmoid,
    .largest = largest,
    .first_at_least = first_at_least,
    .top_k = top_k,
    .summarise = summarise,
    .joined_total = joined_total,
    .fma_burst = fma_burst,
    .int8_burst = int8_burst,
    .read_all = read_all,
};

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
