// Sums of strips by vectors, some tokens at a time, and the table of types (body/strips.h has the definition).
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

void round_tiles(const StripInput& in, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const int64_t first = tile_start(in.m, i);
    uint8_t* out = reinterpret_cast<uint8_t*>(in.out) + first * ((in.cols + 31) / 32) * run_bytes(1, in.halves);
    round_tile(in, first, tile_start(in.m, i + 1) - first, out);
  }
}

// The hardware alone follows a strip too late: so many of its blocks ahead are fetched, some 3 KiB, or 4 where the products take
// less time.
constexpr int64_t blocks_ahead(int block_bytes, int tokens, bool past_caches) {
  const int bytes = tokens <= 2 && past_caches ? 4096 : 3072;
  return bytes < block_bytes ? 1 : (bytes + block_bytes / 2) / block_bytes;
}

// What is read once need not push x out of the caches. Where that is slow (on a Xeon with AMX two threads read 12 GB/s so, 32
// otherwise), it may.
SONDE_INLINE void fetch_strip(const uint8_t* p, bool past_caches) {
  if (past_caches) __builtin_prefetch(p, 0, 0);
  else __builtin_prefetch(p, 0, 3);
}

// While one of many tiles reads strips that are in the caches, it fetches its share of those that come next: so many lines
// for each run of 32 columns, from `offset` bytes after its own strips' first on.
struct Next { int64_t offset, lines; };

// Where the strips begin that are read from memory after these: fetching goes on there.
template <int R>
struct Then { const uint8_t* strips[R]; };

// out[i][t] = row r of strip i, which stands i * apart bytes after w, times token t, over all blocks. w comes from memory, for
// this tile alone, and `then` follows; or next says what is fetched. One copy for each reader and shape: inlined where it is
// called it would be three.
template <class Reader, int R, int T>
SONDE_APART void multiply_strip(const uint8_t* w, int64_t apart, int64_t blocks, const uint8_t* x, const Next* next,
                                const Then<R>& then, Lanes (&out)[R][T]) {
  const bool past_caches = read_once.past_caches;
  const int64_t ahead = blocks_ahead(Reader::kBytes, T, past_caches);
  const uint8_t* later = next == nullptr ? nullptr : w + next->offset;
  const int64_t lines = next == nullptr ? 0 : next->lines;
  constexpr int kGroups = 8 / Reader::kHalves;  // of a sub-scale
  constexpr int kLines = Reader::kRunLines;
  Lanes acc[R][T];
  for (int i = 0; i < R; ++i) {
    for (int t = 0; t < T; ++t) acc[i][t] = zero();
  }
  for (int64_t b = 0; b < blocks; ++b, w += Reader::kBytes) {
    typename Reader::Block block[R];
    for (int i = 0; i < R; ++i) block[i] = Reader::block(w + i * apart);
    const uint8_t* later_blocks[R] = {};
    for (int i = 0; next == nullptr && i < R; ++i) {
      later_blocks[i] = b + ahead < blocks ? w + i * apart + ahead * Reader::kBytes
                                           : then.strips[i] + (b + ahead - blocks) * Reader::kBytes;
    }
#pragma GCC unroll 1
    for (int run = 0; run < Reader::kRuns; ++run, x += run_bytes(T, Reader::kHalves)) {
      for (int64_t line = 0; line < lines; ++line, later += 64) __builtin_prefetch(later, 0, 2);
      const uint8_t* const scales = x + 32 * T;
#pragma GCC unroll 2
      for (int h = 0; h < Reader::kHalves; ++h) {
        const uint8_t* const aux = x + 36 * T + 4 * h * T;
        Dots<Reader::kMost> dots[R][T];
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) {
          for (int i = 0; i < R; ++i) dots[i][t].start(Reader::kMin ? nullptr : aux + 4 * t);
        }
#pragma GCC unroll 8
        for (int k = 0; k < kGroups; ++k) {
          const int g = h * kGroups + k;
          for (int line = g * kLines / 8; next == nullptr && line < (g + 1) * kLines / 8; ++line) {  // a few at a time
            for (int i = 0; i < R; ++i) fetch_strip(later_blocks[i] + run * (Reader::kBytes / Reader::kRuns) + 64 * line, past_caches);
          }
          Quads group[R];
          for (int i = 0; i < R; ++i) group[i] = Reader::group(w + i * apart, run, g);
#pragma GCC unroll 16
          for (int t = 0; t < T; ++t) {
            const Bytes4 four(x + 32 * t + 4 * g);
            for (int i = 0; i < R; ++i) dots[i][t].add(group[i], four, k);
          }
        }
        for (int i = 0; i < R; ++i) {
          const Lanes scale = Reader::scale(block[i], w + i * apart, run, h);
#pragma GCC unroll 16
          for (int t = 0; t < T; ++t) {
            acc[i][t] = fma(dots[i][t].lanes(), mul(scale, set_from(scales + 4 * t)), acc[i][t]);
          }
          if constexpr (Reader::kMin) {
            const Lanes least = Reader::least(block[i], w + i * apart, run);
#pragma GCC unroll 16
            for (int t = 0; t < T; ++t) acc[i][t] = fma(least, set_from(aux + 4 * t), acc[i][t]);
          }
        }
      }
    }
  }
  for (int i = 0; i < R; ++i) {
    for (int t = 0; t < T; ++t) out[i][t] = acc[i][t];
  }
}

// A strip of the task into T tokens of y from `token` on, after its bias where there is one.
template <int T>
SONDE_INLINE void store_strip(const Lanes (&sums)[T], const StripTask& task, int64_t strip, int64_t token) {
  const int64_t row = strip * 16, count = task.rows - row < 16 ? task.rows - row : 16;
  const Lanes added = task.bias == nullptr ? zero() : load_part(task.bias + row, count);
  float* const y = task.y + token * task.ldy + row;
  for (int t = 0; t < T; ++t) {
    const Lanes out = task.bias == nullptr ? sums[t] : add(sums[t], added);
    if (count == 16) store(y + t * task.ldy, out);
    else store_part(y + t * task.ldy, out, count);
  }
}
template <int T>
SONDE_INLINE void silu_mul_strip(Lanes (&gate)[T], const Lanes (&up)[T]) {
  for (int t = 0; t < T; ++t) gate[t] = silu_mul_lanes(gate[t], up[t]);
}

// Strips w (and up, where there is one) and one tile of x, into y. next: as above.
template <class Reader, int R, int T>
void strip_tile(const StripTask& task, const uint8_t* w, const uint8_t* up, int64_t strip_bytes, int64_t blocks, int64_t strip,
                int64_t token, const uint8_t* x, const Next& next) {
  for (int t = 0; t < T; ++t) {  // another core may hold these lines, and a store waits for them
    for (int i = 0; i < R; ++i) __builtin_prefetch(task.y + (token + t) * task.ldy + 16 * (strip + i), 1);
  }
  Lanes acc[R][T], ups[R][T];
  constexpr Then<R> kInCaches{};
  multiply_strip<Reader, R, T>(w, strip_bytes, blocks, x, &next, kInCaches, acc);
  if (up != nullptr) multiply_strip<Reader, R, T>(up, strip_bytes, blocks, x, &next, kInCaches, ups);
  for (int i = 0; i < R; ++i) {
    if (up != nullptr) silu_mul_strip(acc[i], ups[i]);
    store_strip(acc[i], task, strip + i, token);
  }
}

SONDE_INLINE int64_t strip_count(const StripTask& task) { return (task.rows + 15) / 16; }
SONDE_INLINE const uint8_t* strip_at(const std::byte* w, const StripTask& task, int64_t strip) {
  return reinterpret_cast<const uint8_t*>(w) + strip * task.strip_bytes;
}

SONDE_INLINE int64_t second_of(const StripTask& task, int64_t strip) {
  return task.second + (strip + task.turn) % (strip_count(task) - task.second);
}
// What is read after a strip: `next`, or behind the last one what the caller says.
SONDE_INLINE const uint8_t* strip_after(const StripTask& task, int64_t strip, int64_t last, int run, const uint8_t* next) {
  return strip == last && task.then[run] != nullptr ? reinterpret_cast<const uint8_t*>(task.then[run]) : next;
}

// Strips and the one tile there is, in one long run of memory after the other: some strips of the gate, then the same of the up.
template <class Q, int T>
void multiply_in_one_run(const StripTask& task, int64_t begin, int64_t end) {
  const uint8_t* const x = reinterpret_cast<const uint8_t*>(task.x);
  const int64_t last = strip_count(task) - 1;
  constexpr int64_t kTogether = T <= 2 ? 128 : 32;  // results in the second-level cache
  Lanes sums[kTogether][1][T], ups[1][T];
  for (int64_t n, strip = begin; strip < end; strip += n) {
    n = end - strip < kTogether ? end - strip : kTogether;
    for (int64_t i = 0; i < n; ++i) {
      const bool to_up = task.up != nullptr && i == n - 1;
      const Then<1> then{to_up ? strip_at(task.up, task, strip)
                               : strip_after(task, strip + i, last, 0, strip_at(task.w, task, strip + i + 1))};
      multiply_strip<StripReader<Q>, 1, T>(strip_at(task.w, task, strip + i), 0, task.blocks, x, nullptr, then, sums[i]);
    }
    for (int64_t i = 0; i < n; ++i) {
      if (task.up != nullptr) {
        const Then<1> then{i < n - 1 ? strip_at(task.up, task, strip + i + 1)
                                     : strip_after(task, strip + i, last, 0, strip_at(task.w, task, strip + i + 1))};
        multiply_strip<StripReader<Q>, 1, T>(strip_at(task.up, task, strip + i), 0, task.blocks, x, nullptr, then, ups);
        silu_mul_strip(sums[i][0], ups[0]);
      }
      store_strip(sums[i][0], task, strip + i, 0);
    }
  }
}

// The same in two runs at once: gate and up, or strips and their seconds.
template <class Q, int T>
void multiply_in_two_runs(const StripTask& task, int64_t begin, int64_t end) {
  const bool gated = task.up != nullptr;
  const int64_t last = (gated ? strip_count(task) : task.second) - 1, pairs = gated ? end : strip_count(task) - task.second;
  const std::byte* const other = gated ? task.up : task.w;
  const auto beside = [&](int64_t strip) { return gated ? strip : second_of(task, strip); };
  const uint8_t* const x = reinterpret_cast<const uint8_t*>(task.x);
  int64_t strip = begin;
  for (; strip < end && strip < pairs; ++strip) {
    const uint8_t* const w[2] = {strip_at(task.w, task, strip), strip_at(other, task, beside(strip))};
    const Then<2> then{strip_after(task, strip, last, 0, strip_at(task.w, task, strip + 1)),
                       strip_after(task, strip, last, 1, strip_at(other, task, beside(strip + 1)))};
    Lanes sums[2][T];
    multiply_strip<StripReader<Q>, 2, T>(w[0], w[1] - w[0], task.blocks, x, nullptr, then, sums);
    if (gated) silu_mul_strip(sums[0], sums[1]);
    else store_strip(sums[1], task, beside(strip), 0);
    store_strip(sums[0], task, strip, 0);
  }
  if (strip < end) multiply_in_one_run<Q, T>(task, strip, end);  // the middle one of an odd number
}

// Calls f(begin, end) for strips and for their seconds, where there are any.
template <class F>
SONDE_INLINE void each_run(const StripTask& task, int64_t begin, int64_t end, F&& f) {
  f(begin, end);
  if (task.second == 0) return;
  const int64_t pairs = strip_count(task) - task.second;
  for (int64_t strip = begin, run; strip < end && strip < pairs; strip += run) {
    const int64_t first = second_of(task, strip), stop = end < pairs ? end : pairs, behind = strip_count(task) - first;
    run = stop - strip < behind ? stop - strip : behind;
    f(first, first + run);
  }
}

template <class Q, int T>
void multiply_once(const StripTask& task, int64_t begin, int64_t end) {
  if constexpr (kStripRuns == 2) {
    if (read_once.two_runs && (task.up != nullptr || task.second > 0)) return multiply_in_two_runs<Q, T>(task, begin, end);
  }
  each_run(task, begin, end, [&](int64_t first, int64_t last) { multiply_in_one_run<Q, T>(task, first, last); });
}

// Tiles in groups whose bytes stay in the second-level cache while the strips pass.
template <class Q>
void multiply_tile_groups(const StripTask& task, int64_t begin, int64_t end) {
  constexpr int64_t kResident = 384 << 10;
  const int64_t token_bytes = task.blocks * q::StripLayout<Q>::kRuns * run_bytes(1, q::StripLayout<Q>::kHalves);
  const int64_t tiles = tile_count(task.m), fitting = kResident / (token_bytes * kStripTokens);
  const int64_t together = fitting > 1 ? fitting : 1;
  for (int64_t first = 0; first < tiles; first += together) {
    const int64_t last = first + together < tiles ? first + together : tiles;
    for (int64_t rows, strip = begin; strip < end; strip += rows) {
      rows = end - strip >= kStripPair ? kStripPair : 1;
      for (int64_t i = first; i < last; ++i) {
        const int64_t token = tile_start(task.m, i);
        const uint8_t* const x = reinterpret_cast<const uint8_t*>(task.x) + token * token_bytes;
        with_count<kStripAlone>(tile_start(task.m, i + 1) - token, [&]<int T>() {
          const auto tile = [&]<int R>(int64_t at) {
            const auto place = [&](const std::byte* of) { return reinterpret_cast<const uint8_t*>(of) + at * task.strip_bytes; };
            const int64_t bytes = R * task.strip_bytes, runs = task.blocks * q::StripLayout<Q>::kRuns;
            const int64_t lines = (bytes / 64 + (last - first) * runs - 1) / ((last - first) * runs);
            const int64_t fetched = 64 * lines * runs * (i - first);
            const Next next{bytes + fetched, fetched < bytes ? lines : 0};
            strip_tile<StripReader<Q>, R, T>(task, place(task.w), task.up == nullptr ? nullptr : place(task.up), task.strip_bytes,
                                             task.blocks, at, token, x, next);
          };
          if constexpr (kStripPair > 1 && 2 * T >= kStripAlone && T <= kStripTokens) {  // tiles of many are no smaller
            if (rows == kStripPair) return tile.template operator()<kStripPair>(strip);
          }
          for (int64_t r = strip; r < strip + rows; ++r) tile.template operator()<1>(r);
        });
      }
    }
  }
}

template <class Q>
void multiply_strips(const StripTask& task, int64_t begin, int64_t end) {
  if (task.m <= kStripAlone) return with_count<kStripAlone>(task.m, [&]<int T>() { multiply_once<Q, T>(task, begin, end); });
  each_run(task, begin, end, [&](int64_t first, int64_t last) { multiply_tile_groups<Q>(task, first, last); });
}

template <class Q>
constexpr StripType strip_type() {
  if constexpr (requires { typename Q::Strip; }) {
    using S = typename Q::Strip;
    using L = q::StripLayout<Q>;
    return {.bytes = L::kBytes, .zero = S::kZero, .halves = L::kHalves, .min = S::kMin,
            .pack = &q::pack_strip<Q>, .multiply = &multiply_strips<Q>};
  } else {
    return {};
  }
}
constexpr StripType kStripTypes[] = {
#define SONDE_ROW(T) strip_type<q::T>(),
    SONDE_TYPES(SONDE_ROW)
#undef SONDE_ROW
};

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
