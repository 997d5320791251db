// Products of a prompt's rows in integers, for types with minima or two scales a run: each 256 columns of a row of W (the
// last may be fewer) are rounded to signed bytes under one scale, 1/127 of the largest value that their codes could stand
// for, so that among the products of bytes only the scale of x is left to apply. x is rounded as in body/strips.h, with
// zero 128.
//   part = fma(float(sum of 32 bytes * bytes), x-scale, part), from 0, for the runs of 32 columns in order;
//   acc = fma(part, scale, acc) for each 256 columns: one definition for every number of tokens.
// A byte errs by 1/2 + 2^-3 of its unit at most: half by rounding, the rest by coefficients of 16 bits.
//
// W is unpacked once for all tokens, a few hundred columns of two strips at a time, which stay in the first-level cache.
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

constexpr int kFoldRuns = 8, kFoldSpans = 2;      // runs of a span, which has a scale; spans unpacked at once
constexpr int kFewTiles = 8;                      // whose x leaves in the second-level cache what is fetched before it
constexpr int kSpanBytes = kFoldRuns * 512 + 64;  // [run][8 groups][16 rows][4], then 16 scales

// The others have two float operations for 32 columns, not three or four, and gain less than unpacking costs.
template <class Reader>
constexpr bool folds = Reader::kMin || Reader::kHalves == 2;

// Up to kFoldRuns runs of a strip, from the start of a block at w on. Fetches so many lines for each run, from `later` on.
template <class Reader>
void fold_span(const uint8_t* w, int64_t runs, uint8_t* out, const uint8_t* later, int64_t lines) {
  constexpr int kHalves = Reader::kHalves, kZero = Reader::kZero, kMost = Reader::kMost;
  static_assert(0 < kMost && kMost < 64);
  Lanes scales[kFoldRuns * kHalves], least[kFoldRuns];
  Lanes largest = zero();
  const uint8_t* at[kFoldRuns];
  for (int64_t run = 0; run < runs; ++run) {
    at[run] = w + run / Reader::kRuns * Reader::kBytes;
    const typename Reader::Block block = Reader::block(at[run]);
    const int inside = int(run % Reader::kRuns);
    least[run] = Reader::kMin ? Reader::least(block, at[run], inside) : zero();
    for (int h = 0; h < kHalves; ++h) {
      const Lanes scale = scales[run * kHalves + h] = Reader::scale(block, at[run], inside, h);
      const Lanes low = fma(scale, set(float(-kZero)), least[run]);
      const Lanes high = fma(scale, set(float(kMost - kZero)), least[run]);
      largest = larger(largest, larger(magnitude(low), magnitude(high)));
    }
  }
  store(reinterpret_cast<float*>(out + kFoldRuns * 512), mul(largest, set(1.0f / 127.0f)));
  const Lanes inverse = inverse_above(largest, 0x1p-100f, 256 * 127.0f);  // what is smaller counts as zero
  for (int64_t run = 0; run < runs; ++run, out += 512) {
    for (int64_t line = 0; line < lines; ++line, later += 64) __builtin_prefetch(later, 0, 2);
    for (int h = 0; h < kHalves; ++h) {
      const Fold fold(mul(scales[run * kHalves + h], inverse), mul(least[run], inverse), kZero);
      for (int g = 8 / kHalves * h; g < 8 / kHalves * (h + 1); ++g) {
        store_quads(out + 64 * g, fold.of(Reader::group(at[run], int(run % Reader::kRuns), g)));
      }
    }
  }
}

// total[i][t] += row r of span i times token t.
template <int R, int T>
SONDE_APART void multiply_spans(const uint8_t* w, int64_t strip_bytes, int64_t runs, const uint8_t* x, float* total) {
  for (int64_t left = runs; left > 0; left -= kFoldRuns, w += kSpanBytes) {
    Lanes part[R][T];
    for (int i = 0; i < R; ++i) {
      for (int t = 0; t < T; ++t) part[i][t] = zero();
    }
    const int64_t count = left < kFoldRuns ? left : kFoldRuns;
#pragma GCC unroll 1
    for (int64_t run = 0; run < count; ++run, x += run_bytes(T, 1)) {
      const uint8_t* const at = w + 512 * run;
      Dots<255> dots[R][T];
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        for (int i = 0; i < R; ++i) dots[i][t].start(x + 36 * T + 4 * t);
      }
#pragma GCC unroll 8
      for (int g = 0; g < 8; ++g) {
        Quads group[R];
        for (int i = 0; i < R; ++i) group[i] = load_quads(at + i * strip_bytes + 64 * g);
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) {
          const Bytes4 four(x + 32 * t + 4 * g);
          for (int i = 0; i < R; ++i) dots[i][t].add(group[i], four, g);
        }
      }
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        const Lanes scale = set_from(x + 32 * T + 4 * t);
        for (int i = 0; i < R; ++i) part[i][t] = fma(dots[i][t].lanes(), scale, part[i][t]);
      }
    }
    for (int i = 0; i < R; ++i) {
      const Lanes scale = load(reinterpret_cast<const float*>(w + i * strip_bytes + kFoldRuns * 512));
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        float* const to = total + 16 * (i * T + t);
        store(to, fma(part[i][t], scale, load(to)));
      }
    }
  }
}

// total [tile][R][tokens of it][16] = R strips of W times all tokens. `next`: bytes to the strips that follow. y [m, 16 R],
// stride ldy: where the sums will go.
template <class Reader, int R>
void multiply_folded(const uint8_t* const (&w)[R], int64_t next, int64_t runs, const uint8_t* x, int64_t m, float* total,
                     const float* y, int64_t ldy) {
  constexpr int64_t kRuns = kFoldSpans * kFoldRuns;
  constexpr int64_t kStripBytes = kFoldSpans * kSpanBytes;
  alignas(64) uint8_t folded[R * kStripBytes];
  const int64_t tiles = tile_count(m);
  for (int64_t i = 0; i < m * R; ++i) store(total + 16 * i, zero());
  for (int64_t done = 0; done < runs; done += kRuns) {
    const int64_t count = runs - done < kRuns ? runs - done : kRuns;
    const bool last = done + count == runs;
    const int64_t from = done / Reader::kRuns * Reader::kBytes, block = kRuns / Reader::kRuns * Reader::kBytes;
    // What will be unpacked next is fetched while this is, so many lines beside each run; or, where the tiles are many, a
    // little with each of them.
    const int64_t ahead = last ? next : from + block, lines = block / 64;
    const int64_t of_run = tiles <= kFewTiles ? (lines + count - 1) / count : 0;
    for (int i = 0; i < R; ++i) {
      for (int64_t run = 0; run < count; run += kFoldRuns) {
        const int64_t left = count - run;
        fold_span<Reader>(w[i] + from + run / Reader::kRuns * Reader::kBytes, left < kFoldRuns ? left : kFoldRuns,
                          folded + i * kStripBytes + run / kFoldRuns * kSpanBytes, w[i] + ahead + 64 * of_run * run, of_run);
      }
    }
    for (int64_t tile = 0; tile < tiles; ++tile) {
      for (int i = 0; i < R && of_run == 0; ++i) {
        for (int64_t line = lines * tile / tiles; line < lines * (tile + 1) / tiles; ++line) {
          __builtin_prefetch(w[i] + ahead + 64 * line, 0, 2);
        }
      }
      const int64_t token = tile_start(m, tile);
      if (last) {
        for (int64_t t = token; t < tile_start(m, tile + 1); ++t) {
          __builtin_prefetch(y + t * ldy, 1);
          if (R == 2) __builtin_prefetch(y + t * ldy + 16, 1);
        }
      }
      with_count<kStripAlone>(tile_start(m, tile + 1) - token, [&]<int T>() {
        multiply_spans<R, T>(folded, kStripBytes, count, x + token * runs * run_bytes(1, 1) + done * run_bytes(T, 1),
                             total + 16 * R * token);
      });
    }
  }
}

int64_t folded_scratch(int64_t m) { return 32 * m; }

template <class Reader>
void multiply_folded_strips(const StripTask& task, int64_t begin, int64_t end, float* total) {
  const int64_t runs = task.blocks * Reader::kRuns;
  const auto at = [&](const std::byte* w, int64_t strip) { return reinterpret_cast<const uint8_t*>(w) + strip * task.strip_bytes; };
  const uint8_t* const x = reinterpret_cast<const uint8_t*>(task.x);
  // f(y of a token and strip, its sums of each of R strips).
  const auto each = [&]<int R>(int64_t strip, auto&& f) {
    for (int64_t tile = 0; tile < tile_count(task.m); ++tile) {
      const int64_t token = tile_start(task.m, tile), count = tile_start(task.m, tile + 1) - token;
      for (int64_t t = 0; t < count; ++t) {
        Lanes sums[R];
        for (int i = 0; i < R; ++i) sums[i] = load(total + 16 * (R * token + i * count + t));
        f(task.y + (token + t) * task.ldy + 16 * strip, sums);
      }
    }
  };
  const auto put = [&](int64_t at_strip, Lanes out, float* to) {
    const int64_t row = 16 * at_strip, rows = task.rows - row < 16 ? task.rows - row : 16;
    if (task.bias != nullptr) out = add(out, load_part(task.bias + row, rows));
    store_part(to, out, rows);
  };
  for (int64_t strip = begin; strip < end;) {
    const float* const y = task.y + 16 * strip;
    if (task.up != nullptr) {
      multiply_folded<Reader, 2>({at(task.w, strip), at(task.up, strip)}, task.strip_bytes, runs, x, task.m, total, y, task.ldy);
      each.template operator()<2>(strip, [&](float* to, const Lanes (&sums)[2]) { put(strip, silu_mul_lanes(sums[0], sums[1]), to); });
      ++strip;
    } else if (strip + 2 <= end) {
      multiply_folded<Reader, 2>({at(task.w, strip), at(task.w, strip + 1)}, 2 * task.strip_bytes, runs, x, task.m, total, y,
                                 task.ldy);
      each.template operator()<2>(strip, [&](float* to, const Lanes (&sums)[2]) {
        put(strip, sums[0], to), put(strip + 1, sums[1], to + 16);
      });
      strip += 2;
    } else {
      multiply_folded<Reader, 1>({at(task.w, strip)}, task.strip_bytes, runs, x, task.m, total, y, task.ldy);
      each.template operator()<1>(strip, [&](float* to, const Lanes (&sums)[1]) { put(strip, sums[0], to); });
      ++strip;
    }
  }
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
