// Counter-based random numbers (Philox4x32-10, Salmon et al., SC'11): the same (seed, stream, counter) gives the same
// number on every machine, for any number of threads.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace sonde {

class Random {
 public:
  explicit Random(uint64_t seed, uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  // Four 32-bit words for a counter; has no state.
  static std::array<uint32_t, 4> philox(uint64_t counter, uint64_t stream, uint64_t seed) {
    uint32_t c[4] = {uint32_t(counter), uint32_t(counter >> 32), uint32_t(stream), uint32_t(stream >> 32)};
    uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      const uint64_t p0 = uint64_t{0xD2511F53u} * c[0], p1 = uint64_t{0xCD9E8D57u} * c[2];
      const uint32_t n0 = uint32_t(p1 >> 32) ^ c[1] ^ k0, n2 = uint32_t(p0 >> 32) ^ c[3] ^ k1;
      c[0] = n0, c[1] = uint32_t(p1), c[2] = n2, c[3] = uint32_t(p0);
      k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return {c[0], c[1], c[2], c[3]};
  }

  uint32_t next_u32() {
    if (used_ == 4) words_ = philox(counter_++, stream_, seed_), used_ = 0;
    return words_[used_++];
  }
  uint64_t next_u64() { const uint64_t high = next_u32(); return high << 32 | next_u32(); }
  // Uniform in [0, 1), 53 bits.
  double uniform() { return double(next_u64() >> 11) * 0x1p-53; }
  // Standard normal (Box-Muller).
  double normal() {
    const double u = 1.0 - uniform(), v = uniform();
    return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
  }

 private:
  uint64_t seed_, stream_, counter_ = 0;
  std::array<uint32_t, 4> words_{};
  int used_ = 4;
};

}  // namespace sonde
