// The kernels of AMX (kernels/body/tiles.h) over a model of the processor's tiles, for processors that have none.
#pragma once

#include "kernels/table.h"

namespace sonde::kernels {

const KernelTable& amx_model_table(const KernelTable& fewer);
// What the model was asked for that a processor refuses; null: nothing.
const char* amx_model_fault();
// How many threads hold tiles.
int amx_model_holders();

}  // namespace sonde::kernels
