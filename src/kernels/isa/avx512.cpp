// AVX-512: F, BW, VL, DQ.
#define SONDE_ISA avx512
#include "kernels/isa/avx512.h"
// (after Lanes)
#include "kernels/body/all.h"

namespace sonde::kernels {
const KernelTable& avx512_table() { return avx512::kTable; }
}  // namespace sonde::kernels
