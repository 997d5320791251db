// AVX-512 with VNNI: four products of bytes a lane at once.
#define SONDE_ISA avx512_vnni
#include "kernels/isa/avx512.h"
// (after Lanes)
#include "kernels/body/all.h"

namespace sonde::kernels {
const KernelTable& avx512_vnni_table() { return avx512_vnni::kTable; }
}  // namespace sonde::kernels
