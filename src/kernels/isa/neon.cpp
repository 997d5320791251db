// NEON, as every AArch64 processor has it.
// flags aarch64:
// flags aarch64 GNU: -fno-schedule-insns
#define SONDE_ISA neon
#include "kernels/isa/neon.h"
// (after Lanes)
#include "kernels/body/all.h"

namespace sonde::kernels::neon {
namespace {
bool runs(const CpuFeatures& f) { return f.neon; }
const KernelTable& table(const KernelTable*, const CpuFeatures&) { return kTable; }
}  // namespace
extern const InstructionSet kSet{"neon", 10, runs, table};
}  // namespace sonde::kernels::neon
