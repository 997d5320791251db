// AVX-512: F, BW, VL, DQ.
// flags x86_64: -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c -mbmi2 -mprfchw -mprefer-vector-width=512
// flags x86_64 GNU: -Wno-uninitialized -Wno-maybe-uninitialized
#define SONDE_ISA avx512
#include "kernels/isa/avx512.h"
// (after Lanes)
#include "kernels/body/all.h"

namespace sonde::kernels::avx512 {
namespace {
bool runs(const CpuFeatures& f) { return f.avx512; }
const KernelTable& table(const KernelTable*, const CpuFeatures&) { return kTable; }
}  // namespace
extern const InstructionSet kSet{"avx512", 20, runs, table};
}  // namespace sonde::kernels::avx512
