// The kernels, written once over sixteen lanes. isa/NAME.cpp defines SONDE_ISA and Lanes before it includes this.
// No include guard's worth of sharing: each copy lives in its own anonymous namespace.
#pragma once

#include "kernels/body/tile.h"
// (in this order)
#include "kernels/body/matmul.h"
#include "kernels/body/rows.h"
// (after exp_lanes)
#include "kernels/body/attention.h"

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
constexpr KernelTable kTable = {SONDE_TEXT(SONDE_ISA), kUnpack,          dot,
                                matmul,                matmul_scratch,   kPanelRows,
                                attention,             attention_scratch, rms_norm,
                                silu_mul,              add_scaled,       softmax,
                                fma_burst,             read_all};

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
