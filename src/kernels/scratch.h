// Working memory of the calling thread, reused from call to call.
#pragma once

#include <cstdint>

namespace sonde::kernels {

// At least so many floats, aligned to a cache line; valid until the thread's next call.
float* scratch(int64_t floats);

}  // namespace sonde::kernels
