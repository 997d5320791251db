// y = x W^T in bytes, for many tokens: a few strips of sixteen rows are rounded to bytes once, each 128 columns of a row
// with a scale of their own, and meet every token. No scale is left in the inner loop:
//   acc = fma(float(sum of bytes * bytes), w-scale * x-scale, acc) for the groups of 128 columns in order.
//
// A strip's panel: group by group, quads of 16 rows x 4 columns (a byte is the value + 128), then 16 scales (floats).
// x stands in tiles of T tokens: group by group, bytes [columns / 4][T][4], scales float [T], int32 -128 * sum [T].
// Columns are filled up to a multiple of 32 by zeros.
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

constexpr int64_t kGroup = 128;

SONDE_INLINE int64_t padded_columns(int64_t cols) { return (cols + 31) / 32 * 32; }
SONDE_INLINE int64_t group_count(int64_t cols) { return (padded_columns(cols) + kGroup - 1) / kGroup; }
SONDE_INLINE int64_t group_columns(int64_t cols, int64_t g) {
  const int64_t rest = padded_columns(cols) - g * kGroup;
  return rest < kGroup ? rest : kGroup;
}
int64_t panel_bytes(int64_t cols) { return padded_columns(cols) * 16 + group_count(cols) * 64; }
// Of one token.
int64_t panel_input_bytes(int64_t cols) { return padded_columns(cols) + group_count(cols) * 8; }

// --- x ----------------------------------------------------------------------------------------------------------------
template <int T>
void round_groups(const StripInput& in, int64_t first, uint8_t* out) {
  for (int64_t g = 0; g < group_count(in.cols); ++g) {
    const int64_t columns = group_columns(in.cols, g);
    for (int t = 0; t < T; ++t) {
      const float* const x = in.x + (first + t) * in.ldx + g * kGroup;
      const int64_t there = in.cols - g * kGroup < columns ? in.cols - g * kGroup : columns;
      Lanes values[kGroup / 16], top = zero(), whole = zero();
      for (int64_t i = 0; 16 * i < columns; ++i) {
        const int64_t n = there - 16 * i;
        values[i] = n >= 16 ? load(x + 16 * i) : n > 0 ? load_part(x + 16 * i, n) : zero();
        top = larger(top, magnitude(values[i])), whole = add(whole, mul(values[i], zero()));
      }
      float scale = largest_lane(top) / 127.0f;
      const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
      scale += sum(whole);  // what is not finite makes the scale so
      int8_t codes[kGroup];
      int32_t total = 0;
      for (int64_t i = 0; 16 * i < columns; ++i) to_bytes(values[i], inverse, codes + 16 * i);
      for (int64_t k = 0; k < columns; ++k) total += codes[k];
      for (int64_t q = 0; q < columns / 4; ++q) __builtin_memcpy(out + 4 * (q * T + t), codes + 4 * q, 4);
      total *= -128;
      __builtin_memcpy(out + columns * T + 4 * t, &scale, 4);
      __builtin_memcpy(out + columns * T + 4 * T + 4 * t, &total, 4);
    }
    out += (columns + 8) * T;
  }
}

void round_panel_tiles(const StripInput& in, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const int64_t first = tile_start(in.m, i);
    uint8_t* const out = reinterpret_cast<uint8_t*>(in.out) + first * panel_input_bytes(in.cols);
    with_count<kStripTokens>(tile_start(in.m, i + 1) - first, [&]<int T>() { round_groups<T>(in, first, out); });
  }
}

// --- W ----------------------------------------------------------------------------------------------------------------
// From the values of sixteen rows, as any type unpacks them.
void fill_from_values(const MatmulTask& w, int64_t strip, uint8_t* out) {
  for (int64_t g = 0; g < group_count(w.cols); ++g) {
    const int64_t columns = group_columns(w.cols, g);
    const int64_t there = w.cols - g * kGroup < columns ? w.cols - g * kGroup : columns;
    float scales[16];
    for (int r = 0; r < 16; ++r) {
      float values[kGroup];
      const int64_t row = strip * 16 + r;
      int64_t n = 0;
      if (row < w.rows) unpack_part(w, row, g * kGroup, there, values), n = there;
      for (int64_t k = n; k < columns; ++k) values[k] = 0;
      Lanes top = zero(), whole = zero();
      for (int64_t k = 0; k < columns; k += 16) {
        const Lanes v = load(values + k);
        top = larger(top, magnitude(v)), whole = add(whole, mul(v, zero()));
      }
      scales[r] = largest_lane(top) / 127.0f;
      const float inverse = scales[r] > 0 ? 1.0f / scales[r] : 0.0f;
      scales[r] += sum(whole);
      int8_t codes[kGroup];
      for (int64_t k = 0; k < columns; k += 16) to_bytes(load(values + k), inverse, codes + k);
      for (int64_t q = 0; q < columns / 4; ++q) {
        uint32_t four;
        __builtin_memcpy(&four, codes + 4 * q, 4);
        four ^= 0x80808080u;
        __builtin_memcpy(out + 64 * q + 4 * r, &four, 4);
      }
    }
    __builtin_memcpy(out + 16 * columns, scales, 64);
    out += 16 * columns + 64;
  }
}

// The largest magnitude of a code less its zero.
template <class Q>
constexpr int reach() {
  using S = typename Q::Strip;
  if (S::kTable != nullptr) {
    int most = 0;
    for (int i = 0; i < 16; ++i) {
      const int v = S::kTable[i] < 0 ? -S::kTable[i] : S::kTable[i];
      most = v > most ? v : most;
    }
    return most;
  }
  return S::kMin ? (1 << S::kBits) - 1 : S::kZero;
}

// From the packed form, without unpacking: value = a * (code - zero) + b becomes code * A + B in sixteen bits, whose high
// byte is the result. A and B have eight bits behind the point; what that adds to the rounding is below a quarter of a step.
template <class Q>
void fill_from_strip(const uint8_t* w, int64_t cols, uint8_t* out) {
  using S = typename Q::Strip;
  using L = q::StripLayout<Q>;
  constexpr int kParts = 2 * int(kGroup) / 32;  // halves of runs in a group
  for (int64_t g = 0; g < group_count(cols); ++g) {
    const int64_t columns = group_columns(cols, g), first = g * kGroup / 32;
    Lanes a[kParts], b[kParts], top = zero();
    for (int64_t i = 0; i < columns / 32; ++i) {
      const uint8_t* const block = w + (first + i) / L::kRuns * L::kBytes;
      const int64_t run = (first + i) % L::kRuns;
      const Lanes d = block_scale<Q>(block);
      for (int h = 0; h < L::kHalves; ++h) {
        Lanes& step = a[2 * i + h];
        Lanes& least = b[2 * i + h];
        step = d, least = zero();
        if constexpr (S::kSub > 0) step = mul(d, byte_lanes(block + L::kScales + 16 * (run * L::kHalves + h)));
        if constexpr (S::kMin) {
          least = load(reinterpret_cast<const Half*>(block + L::kM));
          if constexpr (S::kSub > 0) least = mul(least, byte_lanes(block + L::kMins + 16 * run));
          top = larger(top, magnitude(least));
        }
        top = larger(top, magnitude(fma(step, set(float(reach<Q>())), least)));
      }
    }
    const Lanes inverse = quotient(set(127.0f), top);
    for (int64_t i = 0; i < columns / 32; ++i) {
      const uint8_t* const block = w + (first + i) / L::kRuns * L::kBytes;
      const uint8_t* const run = block + L::kCodes + (first + i) % L::kRuns * L::kRunBytes;
#pragma GCC unroll 2
      for (int h = 0; h < L::kHalves; ++h) {
        const Lanes256 scale = fixed_point(mul(a[2 * i + h], inverse));
        const Lanes256 shift = S::kMin ? fixed_point(mul(b[2 * i + h], inverse)) : times(scale, -S::kZero);
        const Pairs step = pairs(scale), start = pairs(plus(shift, (128 << 8) + 128));
#pragma GCC unroll 8
        for (int k = 0; k < 8 / L::kHalves; ++k) {
          const int quad = h * (8 / L::kHalves) + k;
          Quads codes = group_codes<Q>(run, quad);
          if constexpr (S::kTable != nullptr) codes = prepared<kSignedCodes>(codes);
          store_quads(out + 64 * quad, high_bytes(codes, step, start));
        }
      }
      out += 512;
    }
    store(reinterpret_cast<float*>(out), mul(top, set(1 / 127.0f)));
    out += 64;
  }
}

using FillPanel = void (*)(const uint8_t* strip, int64_t cols, uint8_t* out);
template <class Q>
constexpr FillPanel fill_panel() {
  if constexpr (requires { typename Q::Strip; }) return &fill_from_strip<Q>;
  return nullptr;
}
constexpr FillPanel kFillPanel[] = {
#define SONDE_ROW(T) fill_panel<q::T>(),
    SONDE_TYPES(SONDE_ROW)
#undef SONDE_ROW
};

void fill(const PanelSource& w, int64_t strip, uint8_t* out) {
  if (w.strips == nullptr) return fill_from_values(w.stored, strip, out);
  kFillPanel[w.stored.type](reinterpret_cast<const uint8_t*>(w.strips) + strip * w.strip_bytes, w.stored.cols, out);
}

// --- products ---------------------------------------------------------------------------------------------------------
template <int R, int T>
SONDE_INLINE void multiply_panel(const uint8_t* w, int64_t strip_bytes, int64_t cols, const uint8_t* x, Lanes (&acc)[R][T]) {
  for (int i = 0; i < R; ++i) {
    for (int t = 0; t < T; ++t) acc[i][t] = zero();
  }
  for (int64_t g = 0; g < group_count(cols); ++g) {
    const int64_t columns = group_columns(cols, g);
    const uint8_t* const scales = x + columns * T;
    Dots<255> dots[R][T];
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
      for (int i = 0; i < R; ++i) dots[i][t].start(scales + 4 * (T + t));
    }
    for (const uint8_t* const end = w + 16 * columns; w < end;) {  // 32 columns at a time
#pragma GCC unroll 8
      for (int k = 0; k < 8; ++k, w += 64, x += 4 * T) {
        Quads group[R];
        for (int i = 0; i < R; ++i) group[i] = prepared<255>(load_quads(w + i * strip_bytes));
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) {
          const Bytes4 four(x + 4 * t);
          for (int i = 0; i < R; ++i) dots[i][t].add(group[i], four, k);
        }
      }
    }
    for (int i = 0; i < R; ++i) {
      const Lanes scale = load(reinterpret_cast<const float*>(w + i * strip_bytes));
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) acc[i][t] = fma(dots[i][t].lanes(), mul(scale, set_from(scales + 4 * t)), acc[i][t]);
    }
    x += 8 * T, w += 64;
  }
}

template <int R, int T>
void panel_strips(const PanelTask& task, const uint8_t* w, const uint8_t* up, int64_t strip, int64_t token, const uint8_t* x) {
  Lanes acc[R][T];
  multiply_panel<R, T>(w, panel_bytes(task.w.stored.cols), task.w.stored.cols, x, acc);
  if (up != nullptr) {
    Lanes ups[R][T];
    multiply_panel<R, T>(up, panel_bytes(task.w.stored.cols), task.w.stored.cols, x, ups);
    for (int i = 0; i < R; ++i) {
      for (int t = 0; t < T; ++t) acc[i][t] = silu_mul_lanes(acc[i][t], ups[i][t]);
    }
  }
  store_strips<R, T>(acc, strip, task.w.stored.rows, task.bias, task.y + token * task.ldy, task.ldy);
}

void multiply_panels(const PanelTask& task, int64_t begin, int64_t end, std::byte* scratch) {
  const int64_t cols = task.w.stored.cols, bytes = panel_bytes(cols), count = end - begin;
  uint8_t* const w = reinterpret_cast<uint8_t*>(scratch);
  uint8_t* const up = task.up.stored.data == nullptr ? nullptr : w + count * bytes;
  for (int64_t i = 0; i < count; ++i) {
    fill(task.w, begin + i, w + i * bytes);
    if (up != nullptr) fill(task.up, begin + i, up + i * bytes);
  }
  for (int64_t tile = 0; tile < tile_count(task.m); ++tile) {
    const int64_t token = tile_start(task.m, tile);
    const uint8_t* const x = reinterpret_cast<const uint8_t*>(task.x) + token * panel_input_bytes(cols);
    // The next tile comes from far (another core's cache, often): its lines are fetched a few with every strip.
    const int64_t tile_bytes = kStripTokens * panel_input_bytes(cols), part = (tile_bytes / 64 * kStripPair + count - 1) / count * 64;
    const uint8_t* next = x + tile_bytes;
    with_count<kStripTokens>(tile_start(task.m, tile + 1) - token, [&]<int T>() {
      int64_t i = 0;
      const auto strips = [&]<int R>() {
        for (const uint8_t* const stop = next + part; next < stop; next += 64) __builtin_prefetch(next);
        panel_strips<R, T>(task, w + i * bytes, up == nullptr ? nullptr : up + i * bytes, begin + i, token, x);
        i += R;
      };
      while (i + kStripPair <= count) strips.template operator()<kStripPair>();
      while (i < count) strips.template operator()<1>();
    });
  }
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
