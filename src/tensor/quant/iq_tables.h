// The codebooks of the IQ types. Shared by every instruction set.
#pragma once

#include <cstdint>

namespace sonde::quant {

template <class T, int kEntries, int kValues>
struct Codebook {
  T values[kEntries][kValues];
};

extern const Codebook<uint8_t, 256, 8> kIq2Xxs;
extern const Codebook<uint8_t, 512, 8> kIq2Xs;
extern const Codebook<uint8_t, 1024, 8> kIq2S;
extern const Codebook<uint8_t, 256, 4> kIq3Xxs;
extern const Codebook<uint8_t, 512, 4> kIq3S;
extern const Codebook<int8_t, 2048, 8> kIq1S;

}  // namespace sonde::quant
