// NEON, as every AArch64 processor has it.
#define SONDE_ISA neon
#include "kernels/isa/neon.h"
// (after Lanes)
#include "kernels/body/all.h"

namespace sonde::kernels {
const KernelTable& neon_table() { return neon::kTable; }
}  // namespace sonde::kernels
