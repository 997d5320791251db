// Types without a strip form, in integers: a few times sixteen rows are unpacked and rounded to signed bytes, 32 columns of
// a row with a scale of their own, into a panel in the second-level cache that meets every token. Sums as in body/strips.h.
#pragma once

namespace sonde::kernels::SONDE_ISA {
namespace {

SONDE_INLINE int64_t run_count(int64_t cols) { return (cols + 31) / 32; }
int64_t panel_bytes(int64_t cols) { return run_count(cols) * PanelReader::kBytes; }

// The columns are filled up to a multiple of 32 by zeros.
void fill_panel(const MatmulTask& w, int64_t strip, std::byte* panel) {
  uint8_t* out = reinterpret_cast<uint8_t*>(panel);
  constexpr int64_t kPart = 256;  // a multiple of every block
  for (int64_t k = 0; k < w.cols; k += kPart) {
    const int64_t columns = w.cols - k < kPart ? w.cols - k : kPart, runs = (columns + 31) / 32;
    for (int r = 0; r < 16; ++r) {
      float values[kPart];
      const int64_t row = strip * 16 + r, there = row < w.rows ? columns : 0;
      if (there > 0) unpack_part(w, row, k, columns, values);
      for (int64_t i = there; i < 32 * runs; ++i) values[i] = 0;
      for (int64_t run = 0; run < runs; ++run) {
        const Lanes a = load(values + 32 * run), b = load(values + 32 * run + 16);
        float scale = largest_lane(larger(magnitude(a), magnitude(b))) / 127.0f;
        const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
        scale += sum(add(mul(a, zero()), mul(b, zero())));  // what is not finite makes the scale so
        int8_t codes[32];
        to_bytes(a, inverse, codes), to_bytes(b, inverse, codes + 16);
        uint8_t* const at = out + run * PanelReader::kBytes;
        for (int g = 0; g < 8; ++g) {
          uint32_t four;
          __builtin_memcpy(&four, codes + 4 * g, 4);
          four ^= 0x80808080u;
          __builtin_memcpy(at + 64 * g + 4 * r, &four, 4);
        }
        __builtin_memcpy(at + 512 + 4 * r, &scale, 4);
      }
    }
    out += runs * PanelReader::kBytes;
  }
}

void multiply_panels(const PanelTask& task, int64_t begin, int64_t end, std::byte* scratch) {
  const int64_t runs = run_count(task.w.cols), bytes = panel_bytes(task.w.cols), count = end - begin;
  uint8_t* const w = reinterpret_cast<uint8_t*>(scratch);
  uint8_t* const up = task.up.data == nullptr ? nullptr : w + count * bytes;
  for (int64_t i = 0; i < count; ++i) {
    fill_panel(task.w, begin + i, scratch + i * bytes);
    if (up != nullptr) fill_panel(task.up, begin + i, scratch + (count + i) * bytes);
  }
  const StripTask out{nullptr, nullptr, task.w.rows, 0, 0, nullptr, task.m, task.y, task.ldy, task.bias};
  constexpr Next kNone{0, 0};  // all panels are in the caches
  for (int64_t tile = 0; tile < tile_count(task.m); ++tile) {
    const int64_t token = tile_start(task.m, tile);
    const uint8_t* const x = reinterpret_cast<const uint8_t*>(task.x) + token * runs * run_bytes(1, 1);
    with_count<kStripAlone>(tile_start(task.m, tile + 1) - token, [&]<int T>() {
      int64_t i = 0;
      const auto strips = [&]<int R>() {
        strip_tile<PanelReader, R, T>(out, w + i * bytes, up == nullptr ? nullptr : up + i * bytes, bytes, runs, begin + i, token, x,
                                      kNone);
        i += R;
      };
      if constexpr (T <= kStripTokens) {
        while (i + kStripPair <= count) strips.template operator()<kStripPair>();
      }
      while (i < count) strips.template operator()<1>();
    });
  }
}

}  // namespace
}  // namespace sonde::kernels::SONDE_ISA
