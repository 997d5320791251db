// Matrices with their packed form, and what the integer kernels see of x.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/common.h"
#include "kernels/pack.h"

namespace sonde::test {

inline std::vector<const Type*> packed_types() {
  std::vector<const Type*> types;
  for (const Type& type : all_types()) {
    if (type.unpack != nullptr && packed_bytes(Matrix{&type, reinterpret_cast<const std::byte*>(&type), 16, type.block,
                                                      type.bytes}) > 0)
      types.push_back(&type);
  }
  return types;
}

inline Status pack(ThreadPool& pool, Matrix& w, std::byte* out) {
  SONDE_CHECK(pack_rows(pool, w, 0, w.rows, out));
  use_packed(w, out);
  return {};
}

struct PackedMatrix : OwnedMatrix {
  AlignedVector<std::byte> strips;
};

inline PackedMatrix packed_matrix(ThreadPool& pool, const Type& type, int64_t rows, int64_t cols, uint64_t seed) {
  PackedMatrix m;
  static_cast<OwnedMatrix&>(m) = random_matrix(type, rows, cols, seed);
  m.strips.resize(std::size_t(packed_bytes(m.view)));
  const Status packed = pack(pool, m.view, m.strips.data());
  EXPECT_TRUE(packed.ok()) << type.name;
  return m;
}

// What the kernels see of x: each run of 32 rounded to multiples of its largest magnitude / 127.
inline std::vector<float> rounded(const std::vector<float>& x) {
  constexpr float kMagic = 12582912;  // 1.5 * 2^23: adding it rounds to an integer
  std::vector<float> y(x.size());
  for (std::size_t k = 0; k < x.size(); k += 32) {
    float largest = 0;
    for (std::size_t j = k; j < k + 32; ++j) largest = std::max(largest, std::abs(x[j]));
    const float scale = largest / 127.0f, inverse = scale > 0 ? 1.0f / scale : 0.0f;
    for (std::size_t j = k; j < k + 32; ++j) y[j] = scale * (std::fma(x[j], inverse, kMagic) - kMagic);
  }
  return y;
}

// The same of m rows of x, whose stride is ldx; zeros between them.
inline std::vector<float> rounded(const std::vector<float>& x, int64_t m, int64_t ldx, int64_t cols) {
  std::vector<float> seen(x.size());
  for (int64_t i = 0; i < m; ++i) {
    const std::vector<float> row = rounded({x.begin() + i * ldx, x.begin() + i * ldx + cols});
    std::copy(row.begin(), row.end(), seen.begin() + i * ldx);
  }
  return seen;
}

// Every byte of w's blocks, where it leaves the values below 2^40 (scales stay as they are).
inline void fill_codes(PackedMatrix& w, int filling) {
  const Type* type = w.view.type;
  std::vector<float> values(std::size_t(type->block));
  for (int64_t b = 0; b < w.view.rows * w.view.cols / type->block; ++b) {
    std::byte* block = w.bytes.data() + b * type->bytes;
    for (int i = 0; i < type->bytes; ++i) {
      const std::byte old = block[i];
      block[i] = std::byte(filling);
      type->unpack(block, 1, values.data());
      if (!std::all_of(values.begin(), values.end(), [](float v) { return std::abs(v) < 0x1p40f; })) block[i] = old;
    }
  }
}

// f(w, x) for all bytes of the blocks of every type alike, and bytes of x of both signs.
template <class F>
void each_filling(ThreadPool& pool, F&& f) {
  for (const Type* type : packed_types()) {
    for (int filling : {0x00, 0x7F, 0x80, 0xFF}) {
      PackedMatrix w = packed_matrix(pool, *type, 16, 2 * std::max(type->block, 32), 5);
      fill_codes(w, filling);
      ASSERT_TRUE(pack(pool, w.view, w.strips.data()).ok());
      for (float sign : {1.0f, -1.0f}) {
        std::vector<float> x(std::size_t(w.view.cols), 127 * sign);
        for (std::size_t k = 0; k < x.size(); k += 5) x[k] = -x[k];
        SCOPED_TRACE(std::string(type->name) + " filled with " + std::to_string(filling));
        ASSERT_NO_FATAL_FAILURE(f(std::as_const(w.view), std::as_const(x)));
      }
    }
  }
}

}  // namespace sonde::test
