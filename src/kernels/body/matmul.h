// y = x W^T. Plain types are read as they are stored. Quantised ones: few tokens take the values straight from their codes,
// many reuse an unpacked panel of W from the second-level cache.
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

float dot(const float* a, const float* b, int64_t n) {
  Tile<1, 1> t;
  clear(t);
  const float* const w[1] = {a};
  const float* const x[1] = {b};
  accumulate(t, w, x, n);
  return sum(t.acc[0][0]);
}

constexpr int64_t kChunk = 768;          // values of k at once: a multiple of every block and of sixteen
constexpr int64_t kPanelRows = 48;       // 144 KiB a chunk
constexpr int64_t kPanelTokens = 132;    // accumulators wait in the second-level cache between chunks: 64 bytes a row and token

// Values [k, k + n) of row r as F32. k and k + n are bounds of blocks.
SONDE_INLINE void unpack_part(const MatmulTask& t, int64_t r, int64_t k, int64_t n, float* out) {
  t.unpack(t.data + r * t.row_bytes + k / t.block * t.block_bytes, n / t.block, out);
  if (t.scales == nullptr) return;
  const std::byte* scales = t.scales + r / t.scale_block * t.scale_cols * t.scale_bytes;
  for (int64_t end, i = 0; i < n; i = end) {
    const int64_t column = (k + i) / t.scale_block;
    end = (column + 1) * t.scale_block - k;
    if (end > n) end = n;
    float scale;
    t.unpack_scale(scales + column * t.scale_bytes, 1, &scale);
    for (int64_t j = i; j < end; ++j) out[j] *= scale;
  }
}

template <int R, int T>
SONDE_INLINE void finish(const MatmulTask& t, const Tile<R, T>& tile, int64_t row, int64_t token) {
  float out[T][R];
  reduce(tile, out);
  for (int i = 0; i < T; ++i) {
    for (int r = 0; r < R; ++r) {
      t.y[(token + i) * t.ldy + row - t.first + r] = t.bias == nullptr ? out[i][r] : out[i][r] + t.bias[row + r];
    }
  }
}

// The hardware follows a row once it runs, but each short row starts with misses: fetch ahead where the next rows begin.
// A prefetch never faults, so it may pass the end of the matrix.
SONDE_INLINE void prefetch_start(const std::byte* row) {
  for (int64_t i = 0; i < 512; i += 64) __builtin_prefetch(row + i);
}

// --- few tokens -------------------------------------------------------------------------------------------------------
// W is read as it is stored, where one load converts it.
template <int R, int T, class W>
void stream_direct(const MatmulTask& t, int64_t row, int64_t token) {
  const W* w[R];
  const float* x[T];
  for (int r = 0; r < R; ++r) w[r] = reinterpret_cast<const W*>(t.data + (row + r) * t.row_bytes);
  for (int i = 0; i < T; ++i) x[i] = t.x + (token + i) * t.ldx;
  for (int r = 0; r < R; ++r) prefetch_start(t.data + (row + R + r) * t.row_bytes);
  Tile<R, T> tile;
  clear(tile);
  accumulate(tile, w, x, t.cols);
  finish(t, tile, row, token);
}

// W passes through a scratch of R chunks in the first-level cache.
template <int R, int T>
void stream_unpacked(const MatmulTask& t, int64_t row, float* scratch) {
  const float* w[R];
  const float* x[T];
  for (int r = 0; r < R; ++r) w[r] = scratch + r * kChunk;
  Tile<R, T> tile;
  clear(tile);
  for (int64_t k = 0; k < t.cols; k += kChunk) {
    const int64_t n = t.cols - k < kChunk ? t.cols - k : kChunk;
    for (int r = 0; r < R; ++r) unpack_part(t, row + r, k, n, scratch + r * kChunk);
    for (int i = 0; i < T; ++i) x[i] = t.x + i * t.ldx + k;
    accumulate(tile, w, x, n);
  }
  finish(t, tile, row, 0);
}

// Rows of a tile of so many tokens: four, where the registers hold their sums.
constexpr int stream_rows(int tokens) { return tokens * kStreamRows <= kTileTokens * kTileRows ? kStreamRows : kTileRows; }
constexpr int64_t kMostFused = 2 * kFusedTokens;  // with more, a panel costs less

constexpr int64_t kScaledAhead = 3072;  // bytes of FP8 that are fetched ahead of the one row at work

// So many tokens pass before the rows of W: their part of x stays in the caches meanwhile.
constexpr int64_t kDirectTokens = 24 * kTileTokens;

template <class W>
void stream_direct_rows(const MatmulTask& t, int64_t begin, int64_t end) {
  each_tile<kTileRows, kTileTokens>(begin, end, t.m, kDirectTokens, [&]<int R, int T>(int64_t row, int64_t token) {
    stream_direct<R, T, W>(t, row, token);
  });
}

// FP8 with a scale for every block of rows and columns: each value times its scale, rounded, as unpack_part() does, but for
// scales from 2^120 on.
template <int R, int T>
void stream_scaled(const MatmulTask& t, int64_t row, int64_t token) {
  const Byte* w[R];
  const std::byte* scales[R];
  const float* x[T];
  for (int r = 0; r < R; ++r) {
    w[r] = reinterpret_cast<const Byte*>(t.data + (row + r) * t.row_bytes);
    scales[r] = t.scales + (row + r) / t.scale_block * t.scale_cols * t.scale_bytes;
  }
  for (int i = 0; i < T; ++i) x[i] = t.x + (token + i) * t.ldx;
  Tile<R, T> tile;
  clear(tile);
  for (int64_t end, k = 0; k < t.cols; k = end) {
    end = k + t.scale_block < t.cols ? k + t.scale_block : t.cols;
    Lanes scale[R];
    for (int r = 0; r < R; ++r, scales[r - 1] += t.scale_bytes) {
      float one;
      t.unpack_scale(scales[r], 1, &one);
      if (!quant::SONDE_ISA::F8_E4M3::is_finite(reinterpret_cast<const std::byte*>(w[r] + k), end - k)) one = __builtin_nanf("");
      scale[r] = set(one * kOfBytes);
      for (int64_t i = k; i < end; i += 64) __builtin_prefetch(w[r] + i + (R == 1 ? kScaledAhead : R * t.row_bytes));
    }
    const int64_t whole = k + (end - k) / 16 * 16;
    for (int64_t i = k; i < whole; i += 16) {
      Lanes b[T];
      for (int j = 0; j < T; ++j) b[j] = load(x[j] + i);
      for (int r = 0; r < R; ++r) {
        const Lanes a = mul(load(w[r] + i), scale[r]);
        for (int j = 0; j < T; ++j) tile.acc[r][j] = fma(a, b[j], tile.acc[r][j]);
      }
    }
    if (whole == end) continue;
    for (int r = 0; r < R; ++r) {
      Byte rest[16] = {};
      for (int64_t i = whole; i < end; ++i) rest[i - whole] = w[r][i];
      const Lanes a = mul(load(rest), scale[r]);
      for (int j = 0; j < T; ++j) tile.acc[r][j] = fma(a, load_part(x[j] + whole, end - whole), tile.acc[r][j]);
    }
  }
  finish(t, tile, row, token);
}

// True when it did the whole task: W is read as stored.
bool stream_as_stored(const MatmulTask& t, int64_t begin, int64_t end) {
  if (t.scales != nullptr) {
    // Few tokens, as values are converted for each kTileTokens of them.
    if (t.unpack != &quant::SONDE_ISA::F8_E4M3::unpack || t.scale_block % 16 != 0 || t.m > 2 * kTileTokens) return false;
    each_tile<kTileRows, kTileTokens>(begin, end, t.m, kDirectTokens, [&]<int R, int T>(int64_t row, int64_t token) {
      stream_scaled<R, T>(t, row, token);
    });
    return true;
  }
  if (t.unpack == &quant::SONDE_ISA::F32::unpack) return stream_direct_rows<float>(t, begin, end), true;
  if (t.unpack == &quant::SONDE_ISA::BF16::unpack) return stream_direct_rows<Bfloat>(t, begin, end), true;
  if (t.unpack == &quant::SONDE_ISA::F16::unpack) return stream_direct_rows<Half>(t, begin, end), true;
  return false;
}

// Types that give sixteen values of a block at a time (`sixteen`): they go from their codes straight into the sums.
struct Held {
  Lanes* lanes;
};
SONDE_INLINE void emit(quant::SONDE_ISA::Codes codes, float d, Held h) { *h.lanes = mul(from_codes(codes), set(d)); }
SONDE_INLINE void emit(quant::SONDE_ISA::UCodes codes, float d, Held h) { emit(quant::SONDE_ISA::Codes(codes), d, h); }
SONDE_INLINE void emit(quant::SONDE_ISA::UCodes codes, float d, float m, Held h) {
  *h.lanes = add(mul(from_codes(quant::SONDE_ISA::Codes(codes)), set(d)), set(m));
}
SONDE_INLINE void emit_low(quant::SONDE_ISA::UCodes q, const quant::SONDE_ISA::Affine& a, Held h) {
  *h.lanes = low_lanes(q, a);
}
SONDE_INLINE void emit_high(quant::SONDE_ISA::UCodes q, const quant::SONDE_ISA::Affine& a, Held h) {
  *h.lanes = high_lanes(q, a);
}

// acc[r][i] += n blocks of row w[r] times token i. x holds the T tokens side by side, sixteen values of each in turn.
// Fetches the same blocks of the rows that stand `skip` bytes ahead.
template <class Q, int R, int T>
SONDE_INLINE void fused_blocks(Lanes (*acc)[T], const std::byte* const* w, int64_t n, const float* x, int64_t skip) {
  Lanes sums[R][T];
  for (int r = 0; r < R; ++r) {
    for (int i = 0; i < T; ++i) sums[r][i] = acc[r][i];
  }
  for (int64_t b = 0; b < n; ++b) {
    for (int r = 0; r < R; ++r) {
      const std::byte* next = w[r] + b * Q::kBytes + skip;
      for (int64_t i = 0; i < Q::kBytes; i += 64) __builtin_prefetch(next + i);
    }
    typename Q::Steps steps[R];
    for (int r = 0; r < R; ++r) Q::steps(w[r] + b * Q::kBytes, steps[r]);
#pragma GCC unroll 16
    for (int c = 0; c < Q::kBlock / 16; ++c, x += 16 * T) {
      Lanes values[R];
      for (int r = 0; r < R; ++r) Q::sixteen(w[r] + b * Q::kBytes, steps[r], c, Held{&values[r]});
      for (int i = 0; i < T; ++i) {
        const Lanes token = load(x + 16 * i);
        for (int r = 0; r < R; ++r) sums[r][i] = fma(values[r], token, sums[r][i]);
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int i = 0; i < T; ++i) acc[r][i] = sums[r][i];
  }
}

// R rows pass over the tokens' next values, fused_rows(T) at a time, while the first-level cache holds these.
template <class Q, int R, int T>
void stream_fused(const MatmulTask& t, int64_t row, int64_t token, const float* x) {
  constexpr int kAtOnce = R < fused_rows(T) ? R : fused_rows(T);
  constexpr int64_t kStep = 512 / Q::kBlock;
  static_assert(R % kAtOnce == 0);
  const std::byte* w[R];
  for (int r = 0; r < R; ++r) w[r] = t.data + (row + r) * t.row_bytes;
  Tile<R, T> tile;
  clear(tile);
  const int64_t blocks = t.cols / Q::kBlock;
  for (int64_t n, b = 0; b < blocks; b += n, x += n * Q::kBlock * T) {
    n = kAtOnce == R || blocks - b < kStep ? blocks - b : kStep;
#pragma GCC unroll 1
    for (int r = 0; r < R; r += kAtOnce) {
      fused_blocks<Q, kAtOnce, T>(&tile.acc[r], &w[r], n, x, R * t.row_bytes);
      for (int j = r; j < r + kAtOnce; ++j) w[j] += n * Q::kBytes;
    }
  }
  finish(t, tile, row, token);
}

template <int T>
void interleave(const MatmulTask& t, int64_t token, float* out) {
  const float* x[T];
  for (int i = 0; i < T; ++i) x[i] = t.x + (token + i) * t.ldx;
  for (int64_t k = 0; k < t.cols; k += 16) {
    for (int i = 0; i < T; ++i, out += 16) store(out, load(x[i] + k));
  }
}

// Groups of at most kFusedTokens tokens; a few rows of W pass through all of them while the first-level cache holds them.
template <class Q>
void stream_fused_rows(const MatmulTask& t, int64_t begin, int64_t end, float* scratch) {
  const int64_t groups = (t.m + kFusedTokens - 1) / kFusedTokens;
  const auto for_groups = [&](auto&& f) {
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t a = t.m * g / groups, b = t.m * (g + 1) / groups;
      with_count<kFusedTokens>(b - a, [&]<int T>() { f.template operator()<T>(a); });
    }
  };
  if (t.m > 1) for_groups([&]<int T>(int64_t token) { interleave<T>(t, token, scratch + token * t.cols); });
  const float* const x = t.m > 1 ? scratch : t.x;
  for (int64_t next, r = begin; r < end; r = next) {
    next = r + kStreamRows <= end ? r + kStreamRows : r + 1;
    for_groups([&]<int T>(int64_t token) {
      if (next - r == kStreamRows) stream_fused<Q, kStreamRows, T>(t, r, token, x + token * t.cols);
      else stream_fused<Q, 1, T>(t, r, token, x + token * t.cols);
    });
  }
}

using StreamFused = void (*)(const MatmulTask&, int64_t, int64_t, float*);
template <class Q>
constexpr StreamFused stream_fused_of() {
  if constexpr (requires { typename Q::Steps; }) return &stream_fused_rows<Q>;
  return nullptr;
}
constexpr StreamFused kStreamFused[] = {
#define SONDE_ROW(T) stream_fused_of<quant::SONDE_ISA::T>(),
    SONDE_TYPES(SONDE_ROW)
#undef SONDE_ROW
};

void stream(const MatmulTask& t, int64_t begin, int64_t end, float* scratch) {
  with_count<kTileTokens>(t.m, [&]<int T>() {
    int64_t r = begin;
    for (constexpr int R = stream_rows(T); r + R <= end; r += R) stream_unpacked<R, T>(t, r, scratch);
    for (; r < end; ++r) stream_unpacked<1, T>(t, r, scratch);
  });
}

// --- many tokens ------------------------------------------------------------------------------------------------------
// One chunk of k for a tile: accumulators come from memory unless it is the first and go back unless it is the last.
template <int R, int T>
void panel_tile(const MatmulTask& t, const float* panel, Lanes* saved, int64_t row, int64_t token, int64_t k, int64_t n) {
  const float* w[R];
  const float* x[T];
  for (int r = 0; r < R; ++r) w[r] = panel + r * kChunk;
  for (int i = 0; i < T; ++i) x[i] = t.x + (token + i) * t.ldx + k;
  Tile<R, T> tile;
  if (k == 0) {
    clear(tile);
  } else {
    for (int r = 0; r < R; ++r) {
      for (int i = 0; i < T; ++i) tile.acc[r][i] = saved[r * T + i];
    }
  }
  accumulate(tile, w, x, n);
  if (k + n == t.cols) return finish(t, tile, row, token);
  for (int r = 0; r < R; ++r) {
    for (int i = 0; i < T; ++i) saved[r * T + i] = tile.acc[r][i];
  }
}

void panel(const MatmulTask& t, int64_t begin, int64_t end, int64_t first_token, int64_t tokens, float* scratch) {
  const int64_t rows = end - begin, tiles = (tokens + kTileTokens - 1) / kTileTokens;
  Lanes* saved = reinterpret_cast<Lanes*>(scratch + kPanelRows * kChunk);
  for (int64_t k = 0; k < t.cols; k += kChunk) {
    const int64_t n = t.cols - k < kChunk ? t.cols - k : kChunk;
    for (int64_t r = 0; r < rows; ++r) unpack_part(t, begin + r, k, n, scratch + r * kChunk);
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t a = tokens * tile / tiles, b = tokens * (tile + 1) / tiles;  // at most kTileTokens, evenly
      with_count<kTileTokens>(b - a, [&]<int T>() {
        int64_t r = 0;
        for (; r + kTileRows <= rows; r += kTileRows) {
          panel_tile<kTileRows, T>(t, scratch + r * kChunk, saved + r * tokens + a * kTileRows, begin + r,
                                   first_token + a, k, n);
        }
        for (; r < rows; ++r) {
          panel_tile<1, T>(t, scratch + r * kChunk, saved + r * tokens + a, begin + r, first_token + a, k, n);
        }
      });
    }
  }
}

int64_t matmul_scratch(int64_t m, int64_t cols) {
  const int64_t fused = m > 1 && m <= kMostFused ? m * cols : 0;
  if (m <= kTileTokens) return fused > kStreamRows * kChunk ? fused : kStreamRows * kChunk;
  const int64_t panel = kPanelRows * kChunk + kPanelRows * (m < kPanelTokens ? m : kPanelTokens) * 16;
  return fused > panel ? fused : panel;
}

void matmul(const MatmulTask& t, int64_t begin, int64_t end, float* scratch) {
  if (stream_as_stored(t, begin, end)) return;
  if (t.m <= kMostFused && t.scales == nullptr && kStreamFused[t.type] != nullptr) {
    return kStreamFused[t.type](t, begin, end, scratch);
  }
  if (t.m <= kTileTokens) return stream(t, begin, end, scratch);
  for (int64_t r = begin; r < end; r += kPanelRows) {
    const int64_t last = r + kPanelRows < end ? r + kPanelRows : end;
    for (int64_t i = 0; i < t.m; i += kPanelTokens) {
      panel(t, r, last, i, t.m - i < kPanelTokens ? t.m - i : kPanelTokens, scratch);
    }
  }
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
