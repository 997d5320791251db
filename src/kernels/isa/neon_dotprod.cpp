// NEON with the dot product: four products of bytes a lane at once.
#define SONDE_ISA neon_dotprod
#include "kernels/isa/neon.h"
// (after Lanes)
#include "kernels/body/all.h"

namespace sonde::kernels {
const KernelTable& neon_dotprod_table() { return neon_dotprod::kTable; }
}  // namespace sonde::kernels
