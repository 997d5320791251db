// W as body/pair_tiles.h multiplies it: sixteen rows as pairs of BF16, for every 32 columns [16 pairs][16 rows][2], zeros
// beyond the last row and column.
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

// 32 values as pairs that follow each other; of `n`, then zeros.
SONDE_INLINE void lay_pairs(const Bfloat* w, int64_t n, uint16_t* out) {
  store(reinterpret_cast<float*>(out), zero());
  __builtin_memcpy(out, w, std::size_t(2 * (n < 32 ? n : 32)));
}
template <class V>
SONDE_INLINE void lay_pairs(const V* w, int64_t n, uint16_t* out) {
  const Run run = load_run(w, n);
  store_upper_halves(out, run.a, run.b);
}

// Rows of BF16 (V) as stored, or of F16 or F32, which are rounded as packed weights are (isa/pairs512.h). W ends where its last
// row does, and between rows any values may stand.
template <class V>
struct StoredPairs {
  const uint8_t* w;
  int64_t rows, cols, row_bytes;
  static constexpr bool kInPlace = __is_same(V, Bfloat);

  const uint8_t* at(int64_t strip, int64_t k) const { return w + 16 * strip * row_bytes + int64_t(sizeof(V)) * k; }

  void lay(int64_t strip, int64_t from, int64_t steps, uint8_t* out) const {
    const int64_t present = rows - 16 * strip < 16 ? rows - 16 * strip : 16;
    alignas(64) uint16_t part[16][32] = {};
    const V* row[16];
    for (int64_t r = 0; r < 16; ++r) row[r] = reinterpret_cast<const V*>(at(strip, 0) + (r < present ? r : 0) * row_bytes);
    const int64_t end = from + 32 * steps;
    const uint8_t* next = end < cols ? at(strip, end) : at(strip + 1, 0);
    for (int64_t k = from; k < end; k += 32, out += 1024, next += 32 * sizeof(V)) {
      for (int64_t r = 0; r < 16; ++r) {
        for (std::size_t line = 0; line < 32 * sizeof(V); line += 64) __builtin_prefetch(next + r * row_bytes + line, 0, 2);
      }
      const uint16_t* starts[16];
      const bool whole = kInPlace && present == 16 && k + 32 <= cols;
      for (int64_t r = 0; r < 16; ++r) {
        starts[r] = whole ? reinterpret_cast<const uint16_t*>(row[r] + k) : part[r];
        if (!whole && r < present) lay_pairs(row[r] + k, cols - k, part[r]);
      }
      transpose_pairs(starts, 0, reinterpret_cast<uint32_t*>(out), 16);
    }
  }
};

// Packed strips: scale * (code - zero) + minimum, in F32 by one rounding or two, then as BF16 (isa/pairs512.h says which).
template <class Reader>
struct StripPairs {
  const uint8_t* w;
  int64_t strip_bytes;
  static constexpr int64_t kBlockColumns = 32 * Reader::kRuns, kRunBytes = (Reader::kBytes + Reader::kRuns - 1) / Reader::kRuns;
  static constexpr int64_t kAhead = 2048;  // bytes
  static_assert(kSpan % kBlockColumns == 0);

  const uint8_t* at(int64_t strip, int64_t k) const { return w + strip * strip_bytes + k / kBlockColumns * Reader::kBytes; }

  void lay(int64_t strip, int64_t from, int64_t steps, uint8_t* out) const {
    const uint8_t* block = at(strip, from);
    for (int64_t done = 0; done < steps; done += Reader::kRuns, block += Reader::kBytes) {
      const typename Reader::Block shared = Reader::block(block);
#pragma GCC unroll 1
      for (int run = 0; run < Reader::kRuns; ++run, out += 1024) {
        const uint8_t* const next = block + run * kRunBytes + kAhead;
        for (int64_t line = 0; line < kRunBytes; line += 64) __builtin_prefetch(next + line, 0, 2);
        for (int h = 0; h < Reader::kHalves; ++h) {
          const Lanes scale = Reader::scale(shared, block, run, h);
          const Lanes least = Reader::kMin ? Reader::least(shared, block, run) : zero();
          if constexpr (Reader::kNibbles) {
            const NibblePairs pairs(scale.v, least.v, Reader::kZero);
#pragma GCC unroll 4
            for (int g = 0; g < 8; g += 2) pairs.store(Reader::two_groups(block, run, g).v, reinterpret_cast<uint32_t*>(out + 128 * g));
          } else {
            const BytePairs pairs(scale.v, least.v, Reader::kZero);
#pragma GCC unroll 8
            for (int g = 8 / Reader::kHalves * h; g < 8 / Reader::kHalves * (h + 1); ++g) {
              pairs.store(Reader::group(block, run, g).v, reinterpret_cast<uint32_t*>(out + 128 * g));
            }
          }
        }
      }
    }
  }
};

// --- the table --------------------------------------------------------------------------------------------------
template <class V>
void multiply_stored_as(const PairTask& t, int64_t begin, int64_t end, float* scratch) {
  const auto stored = [&](const std::byte* w) {
    return StoredPairs<V>{reinterpret_cast<const uint8_t*>(w), t.rows, t.cols, t.row_bytes};
  };
  const StoredPairs<V> w = stored(t.w), up = stored(t.up);
  multiply_pair_strips({t.rows, t.cols, t.x, t.m, t.y, t.ldy, t.bias}, w, t.up == nullptr ? nullptr : &up, begin / 16,
                       (end + 15) / 16, scratch);
}

void multiply_stored_pairs(const PairTask& t, int64_t begin, int64_t end, float* scratch) {
  if (t.stored == PairTask::kF16) return multiply_stored_as<Half>(t, begin, end, scratch);
  if (t.stored == PairTask::kF32) return multiply_stored_as<float>(t, begin, end, scratch);
  multiply_stored_as<Bfloat>(t, begin, end, scratch);
}
int64_t stored_pair_scratch(int64_t m, int64_t) { return pair_scratch(m); }

template <class Reader>
void multiply_strip_pairs(const StripTask& t, int64_t begin, int64_t end, float* scratch) {
  using W = StripPairs<Reader>;
  const W w{reinterpret_cast<const uint8_t*>(t.w), t.strip_bytes}, up{reinterpret_cast<const uint8_t*>(t.up), t.strip_bytes};
  multiply_pair_strips({t.rows, t.blocks * W::kBlockColumns, t.x, t.m, t.y, t.ldy, t.bias}, w, t.up == nullptr ? nullptr : &up,
                       begin, end, scratch);
}

template <class Q>
void take_prompt(StripType& type) {
  if constexpr (requires { typename Q::Strip; }) {
    type.prompt = multiply_strip_pairs<StripReader<Q>>, type.prompt_by_pairs = true;
  }
}

void take_pairs(KernelTable& table) {
  table.pair_parts = pair_part_count, table.round_pairs = round_pair_parts, table.pairs = multiply_stored_pairs;
  table.prompt_scratch = pair_scratch, table.pair_scratch = stored_pair_scratch, table.pair_tiles = true;
  StripType* type = strip_types;
#define SONDE_ROW(T) take_prompt<q::T>(*type++);
  SONDE_TYPES(SONDE_ROW)
#undef SONDE_ROW
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
