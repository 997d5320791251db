// Every storage type. A new one is a header in this folder and a row here; types.cpp and the kernels expand the list.
#pragma once

#include "tensor/quant/plain.h"
#include "tensor/quant/q4_0.h"
#include "tensor/quant/q4_k.h"
#include "tensor/quant/q6_k.h"
#include "tensor/quant/q8_0.h"

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
  X(Q8_0)              \
  X(Q4_K)              \
  X(Q6_K)
