// y = x W^T: few tokens stream the rows of W once; many tokens reuse an unpacked panel of W from the second-level cache.
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

constexpr int64_t kChunk = 512;          // values of k at once: a multiple of every block and of sixteen
constexpr int64_t kPanelRows = 48;       // 96 KiB a chunk
constexpr int64_t kPanelTokens = 512;    // accumulators of a panel wait in memory between chunks: 64 bytes a row and token

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
      t.y[(token + i) * t.ldy + row + r] = t.bias == nullptr ? out[i][r] : out[i][r] + t.bias[row + r];
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

constexpr int kStreamRows = 4;

// A few tiles of tokens: the rows of W stay in the first-level cache between them.
constexpr int64_t kDirectTokens = 4 * kTileTokens;

template <class W>
void stream_direct_rows(const MatmulTask& t, int64_t begin, int64_t end) {
  const int64_t tiles = (t.m + kTileTokens - 1) / kTileTokens;
  for (int64_t next, r = begin; r < end; r = next) {
    next = r + kStreamRows <= end ? r + kStreamRows : r + 1;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t a = t.m * tile / tiles, b = t.m * (tile + 1) / tiles;
      with_count<kTileTokens>(b - a, [&]<int T>() {
        if (next - r == kStreamRows) stream_direct<kStreamRows, T, W>(t, r, a);
        else stream_direct<1, T, W>(t, r, a);
      });
    }
  }
}

// True when it did the whole task: W is read as stored.
bool stream_as_stored(const MatmulTask& t, int64_t begin, int64_t end) {
  if (t.scales != nullptr || t.m > kDirectTokens) return false;
  if (t.unpack == &quant::SONDE_ISA::F32::unpack) return stream_direct_rows<float>(t, begin, end), true;
  if (t.unpack == &quant::SONDE_ISA::BF16::unpack) return stream_direct_rows<Bfloat>(t, begin, end), true;
  if (t.unpack == &quant::SONDE_ISA::F16::unpack) return stream_direct_rows<Half>(t, begin, end), true;
  return false;
}

// Types whose loop (`each`) takes any destination: sixteen values go from their codes straight into the sums.
template <int T>
struct Sums {
  const float* const* x;
  int64_t k;
  Lanes* acc;
};
template <int T>
SONDE_INLINE Sums<T> operator+(Sums<T> s, int64_t n) { return {s.x, s.k + n, s.acc}; }
template <int T>
SONDE_INLINE Sums<T>& operator+=(Sums<T>& s, int64_t n) { return s.k += n, s; }
template <int T>
SONDE_INLINE void add_product(Lanes w, Sums<T> s) {
  for (int i = 0; i < T; ++i) s.acc[i] = fma(w, load(s.x[i] + s.k), s.acc[i]);
}
template <int T>
SONDE_INLINE void emit(quant::SONDE_ISA::Codes codes, float d, Sums<T> s) { add_product(mul(from_codes(codes), set(d)), s); }
template <int T>
SONDE_INLINE void emit(quant::SONDE_ISA::UCodes codes, float d, Sums<T> s) { emit(quant::SONDE_ISA::Codes(codes), d, s); }
template <int T>
SONDE_INLINE void emit(quant::SONDE_ISA::UCodes codes, float d, float m, Sums<T> s) {
  add_product(add(mul(from_codes(quant::SONDE_ISA::Codes(codes)), set(d)), set(m)), s);
}

template <int T>
SONDE_INLINE void emit_low(quant::SONDE_ISA::UCodes q, const quant::SONDE_ISA::Affine& a, Sums<T> s) {
  add_product(low_lanes(q, a), s);
}
template <int T>
SONDE_INLINE void emit_high(quant::SONDE_ISA::UCodes q, const quant::SONDE_ISA::Affine& a, Sums<T> s) {
  add_product(high_lanes(q, a), s);
}

constexpr int kFusedTokens = kTileTokens / 2;  // with more, unpacking once into a scratch costs less

template <class Q, int R, int T>
void stream_fused(const MatmulTask& t, int64_t row) {
  const std::byte* w[R];
  const float* x[T];
  for (int r = 0; r < R; ++r) w[r] = t.data + (row + r) * t.row_bytes;
  for (int i = 0; i < T; ++i) x[i] = t.x + i * t.ldx;
  Tile<R, T> tile;
  clear(tile);
  constexpr int64_t kStep = Q::kBlock < 64 ? 64 / Q::kBlock : 1;  // blocks of one row before the next row's turn
  const int64_t blocks = t.cols / Q::kBlock;
  for (int64_t b = 0; b < blocks; b += kStep) {
    const int64_t n = blocks - b < kStep ? blocks - b : kStep;
    for (int r = 0; r < R; ++r) {
      const std::byte* p = w[r] + b * Q::kBytes;
      for (int64_t i = 0; i < kStep * Q::kBytes; i += 64) __builtin_prefetch(p + R * t.row_bytes + i);
      Q::each(p, n, Sums<T>{x, b * Q::kBlock, tile.acc[r]});
    }
  }
  finish(t, tile, row, 0);
}

template <class Q>
void stream_fused_rows(const MatmulTask& t, int64_t begin, int64_t end) {
  with_count<kFusedTokens>(t.m, [&]<int T>() {
    int64_t r = begin;
    for (; r + kStreamRows <= end; r += kStreamRows) stream_fused<Q, kStreamRows, T>(t, r);
    for (; r < end; ++r) stream_fused<Q, 1, T>(t, r);
  });
}

using StreamFused = void (*)(const MatmulTask&, int64_t, int64_t);
template <class Q>
constexpr StreamFused stream_fused_of() {
  if constexpr (requires(const std::byte* p, Sums<1> s) { Q::each(p, int64_t{1}, s); }) return &stream_fused_rows<Q>;
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
    for (; r + kStreamRows <= end; r += kStreamRows) stream_unpacked<kStreamRows, T>(t, r, scratch);
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

int64_t matmul_scratch(int64_t m) {
  if (m <= kTileTokens) return kStreamRows * kChunk;
  return kPanelRows * kChunk + kPanelRows * (m < kPanelTokens ? m : kPanelTokens) * 16;
}

void matmul(const MatmulTask& t, int64_t begin, int64_t end, float* scratch) {
  if (stream_as_stored(t, begin, end)) return;
  if (t.m <= kFusedTokens && kStreamFused[t.type] != nullptr) return kStreamFused[t.type](t, begin, end);
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
