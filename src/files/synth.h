// Files of random weights in the shape of published models, to measure and to test with. Any GGUF engine opens them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sonde/result.h"

namespace sonde {

struct SynthOptions {
  std::string shape;              // one of synth_shapes()
  std::string type;               // one of synth_types()
  std::string out;                // the file
  std::optional<int64_t> layers;  // the first so many; unset: all
  uint64_t seed = 0;              // the same seed gives the same bytes
  // Told of bytes done and bytes in all as the work goes on; false cancels it.
  std::function<bool(int64_t done, int64_t total)> progress;
  bool mtp = true;  // with the shape's layer of multi-token prediction
};

struct SynthReport {
  int64_t bytes = 0;       // of tensors
  int64_t parameters = 0;  // numbers in them
  int64_t layers = 0;
};

std::vector<std::string_view> synth_shapes();
std::vector<std::string_view> synth_types();

// Refuses, before it writes, what the disk has no room for. The file appears when it is whole.
Result<SynthReport> write_synthetic(const SynthOptions& options);

}  // namespace sonde
