// NEON with the dot product: four products of bytes a lane at once.
// flags aarch64: -march=armv8.2-a+dotprod
// flags aarch64 GNU: -fno-schedule-insns
#define SONDE_ISA neon_dotprod
#include "kernels/isa/neon.h"
// (after Lanes)
#include "kernels/body/all.h"

namespace sonde::kernels::neon_dotprod {
namespace {
bool runs(const CpuFeatures& f) { return f.neon_dotprod; }
const KernelTable& table(const KernelTable*, const CpuFeatures&) { return kTable; }
}  // namespace
extern const InstructionSet kSet{"neon_dotprod", 20, runs, table};
}  // namespace sonde::kernels::neon_dotprod
