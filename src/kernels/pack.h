// The packed form of quantised weights: what matmul() reads in the fast path (tensor/quant/strip.h has the layout).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/threads.h"
#include "sonde/result.h"
#include "tensor/tensor.h"

namespace sonde {

// Version of what packed weights are: another one where strip.h or a type's Strip puts other bytes, other matrices of a model
// are packed, or they stand elsewhere.
inline constexpr uint32_t kPackedLayout = 3;

// Bytes of w in the packed form: at most 1.03 times those of its rows, rounded up to sixteen of them. 0: it has none.
int64_t packed_bytes(const Matrix& w);

// Writes the packed form of `count` rows of w from `first` on, a multiple of sixteen, to `out`. A scale that is not finite
// is an error (kCorrupt).
Status pack_rows(ThreadPool& pool, const Matrix& w, int64_t first, int64_t count, std::byte* out);
// The same error where a block of w, of a quantised type, holds a value that is not finite: reads all of it.
Status check_blocks(ThreadPool& pool, const Matrix& w);
// The same error where w has scales of blocks (FP8) of which one is not finite.
Status check_scales(const Matrix& w);
// Points w at a packed form that lies at `at` already.
void use_packed(Matrix& w, const std::byte* at);

}  // namespace sonde
