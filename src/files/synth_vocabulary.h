// A made-up vocabulary of true size: real control tokens at their real ids, byte tokens, and merges of letters.
#pragma once

#include "files/gguf.h"
#include "files/synth_shapes.h"

namespace sonde {

void set_vocabulary_keys(const SynthShape& shape, GgufWriter& out);

}  // namespace sonde
