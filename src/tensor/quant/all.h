// Every storage type. A new one is a header in this folder and a row here; types.cpp and the kernels expand the list.
#pragma once

#include "tensor/quant/iq1_m.h"
#include "tensor/quant/iq1_s.h"
#include "tensor/quant/iq2_s.h"
#include "tensor/quant/iq2_xs.h"
#include "tensor/quant/iq2_xxs.h"
#include "tensor/quant/iq3_s.h"
#include "tensor/quant/iq3_xxs.h"
#include "tensor/quant/iq4_nl.h"
#include "tensor/quant/iq4_xs.h"
#include "tensor/quant/mxfp4.h"
#include "tensor/quant/nvfp4.h"
#include "tensor/quant/plain.h"
#include "tensor/quant/q1_0.h"
#include "tensor/quant/q2_0.h"
#include "tensor/quant/q2_k.h"
#include "tensor/quant/q3_k.h"
#include "tensor/quant/q4_0.h"
#include "tensor/quant/q4_1.h"
#include "tensor/quant/q4_k.h"
#include "tensor/quant/q5_0.h"
#include "tensor/quant/q5_1.h"
#include "tensor/quant/q5_k.h"
#include "tensor/quant/q6_k.h"
#include "tensor/quant/q8_0.h"
#include "tensor/quant/q8_1.h"
#include "tensor/quant/q8_k.h"
#include "tensor/quant/tq1_0.h"
#include "tensor/quant/tq2_0.h"

// SONDE_TYPES(X): X(STRUCT) for every type. The structs live in sonde::quant::SONDE_ISA; integers have no unpack,
// not every type has pack: ask `requires { &T::unpack; }`.
#define SONDE_TYPES(X) \
  X(F32)               \
  X(F16)               \
  X(BF16)              \
  X(F64)               \
  X(F8_E4M3)           \
  X(F8_E8M0)           \
  X(I8)                \
  X(U8)                \
  X(Bool)              \
  X(I16)               \
  X(I32)               \
  X(I64)               \
  X(Q4_0)              \
  X(Q4_1)              \
  X(Q5_0)              \
  X(Q5_1)              \
  X(Q8_0)              \
  X(Q8_1)              \
  X(Q2_K)              \
  X(Q3_K)              \
  X(Q4_K)              \
  X(Q5_K)              \
  X(Q6_K)              \
  X(Q8_K)              \
  X(IQ4_NL)            \
  X(IQ4_XS)            \
  X(IQ2_XXS)           \
  X(IQ2_XS)            \
  X(IQ2_S)             \
  X(IQ3_XXS)           \
  X(IQ3_S)             \
  X(IQ1_S)             \
  X(IQ1_M)             \
  X(TQ1_0)             \
  X(TQ2_0)             \
  X(MXFP4)             \
  X(NVFP4)             \
  X(Q1_0)              \
  X(Q2_0)

namespace sonde::quant {
inline constexpr const char* kScaledBytes = "Q8_0";  // scaled_bytes() in tensor/types.h
}  // namespace sonde::quant
