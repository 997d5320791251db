// The kernels of AMX (kernels/body/tiles.h) over a model of the processor's tiles, for processors that have none.
#pragma once

#include "kernels/table.h"

namespace sonde::kernels {

const KernelTable& amx_model_table(const KernelTable& fewer);

}  // namespace sonde::kernels
