// The fastest loops there are: what the machine's peaks are measured with.
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

constexpr int kBurstChains = kTileRows * kTileTokens;  // as many accumulators as the register tile has
constexpr int kByteChains = kBurstChains < 8 ? kBurstChains : 8;

int64_t fma_burst(int64_t rounds, float* result) {
  Lanes c[kBurstChains];
  float starts[16 * kBurstChains];  // all different, so that no chain stands in for another
  for (int i = 0; i < 16 * kBurstChains; ++i) starts[i] = *result + float(i);
#pragma GCC unroll 32
  for (int i = 0; i < kBurstChains; ++i) c[i] = load(starts + 16 * i);
  const Lanes a = set(0.999f), b = set(0.001f);
  for (int64_t k = 0; k < rounds; ++k) {
#pragma GCC unroll 32
    for (int i = 0; i < kBurstChains; ++i) c[i] = fma(c[i], a, b);
  }
  *result = 0;
#pragma GCC unroll 32
  for (int i = 0; i < kBurstChains; ++i) *result += sum(c[i]);
  return rounds * kBurstChains * 16 * 2;
}

// bytes_fma: 64 products of unsigned and signed bytes added into 16 int32 lanes, by the best instruction of this set.
int64_t int8_burst(int64_t rounds, float* result) {
  Bytes c[kByteChains];
  const Bytes a = set_bytes(3), b = set_bytes(5);
  for (int i = 0; i < kByteChains; ++i) c[i] = set_bytes(i);
  for (int64_t k = 0; k < rounds; ++k) {
    for (int i = 0; i < kByteChains; ++i) c[i] = bytes_fma(c[i], a, b);
  }
  *result = 0;
  for (int i = 0; i < kByteChains; ++i) *result += any_value(c[i]);
  return rounds * kByteChains * 64 * 2;
}

// In as many runs of memory, and as far ahead, as the processor reads fastest.
template <int R>
float read_runs(const float* data, int64_t n) {
  constexpr int kAhead = 256;
  const int64_t part = n / R / 64 * 64;
  Lanes c[4] = {zero(), zero(), zero(), zero()};
  for (int64_t i = 0; i < part; i += 64) {
    for (int r = 0; r < R; ++r) {
      const float* const from = data + r * part + i;
      if (R > 1) {
        for (int j = 0; j < 4; ++j) __builtin_prefetch(from + kAhead + 16 * j, 0, 3);
      }
      for (int j = 0; j < 4; ++j) c[j] = add(c[j], load(from + 16 * j));
    }
  }
  return sum(add(add(c[0], c[1]), add(c[2], c[3])));
}
float read_all(const float* data, int64_t n) { return read_once.two_runs ? read_runs<2>(data, n) : read_runs<1>(data, n); }

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
