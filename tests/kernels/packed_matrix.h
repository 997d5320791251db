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

// Quantised types without a packed form.
inline std::vector<const Type*> panel_types() {
  std::vector<const Type*> types = weight_types();
  const std::vector<const Type*> packed = packed_types();
  std::erase_if(types, [&](const Type* type) {
    return type->bytes >= 2 * type->block || std::find(packed.begin(), packed.end(), type) != packed.end();
  });
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

inline PackedMatrix packed(ThreadPool& pool, OwnedMatrix stored) {
  PackedMatrix m;
  static_cast<OwnedMatrix&>(m) = std::move(stored);
  m.strips.resize(std::size_t(packed_bytes(m.view)));
  const Status status = pack(pool, m.view, m.strips.data());
  EXPECT_TRUE(status.ok()) << m.view.type->name;
  return m;
}
inline PackedMatrix packed_matrix(ThreadPool& pool, const Type& type, int64_t rows, int64_t cols, uint64_t seed) {
  return packed(pool, random_matrix(type, rows, cols, seed));
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

// Codes 0 where these stand for another value than 0: the largest magnitudes of some types.
inline constexpr int kZeroCodes = -1;
// Every byte of w's blocks, where it leaves the values below 2^40 (scales stay as they are); kZeroCodes: and none 0.
inline void fill_codes(OwnedMatrix& w, int filling) {
  const Type* type = w.view.type;
  std::vector<float> values(std::size_t(type->block));
  const auto small = [](float v) { return std::abs(v) < 0x1p40f; };
  const auto zeros = [&] { return filling == kZeroCodes ? std::count(values.begin(), values.end(), 0.0f) : 0; };
  for (int64_t b = 0; b < w.view.rows * w.view.cols / type->block; ++b) {
    std::byte* block = w.bytes.data() + b * type->bytes;
    type->unpack(block, 1, values.data());
    auto before = zeros();
    for (int i = 0; i < type->bytes; ++i) {
      const std::byte old = block[i];
      block[i] = filling == kZeroCodes ? std::byte(0) : std::byte(filling);
      type->unpack(block, 1, values.data());
      if (zeros() > before || !std::all_of(values.begin(), values.end(), small)) block[i] = old;
      else before = zeros();
    }
  }
}

// f(w) for two blocks a row (columns, at least 64) of each type, all their bytes alike.
template <class F>
void each_filling(const std::vector<const Type*>& types, F&& f) {
  for (const Type* type : types) {
    for (int filling : {0x00, 0x7E, 0x7F, 0x80, 0xFE, 0xFF, kZeroCodes}) {
      OwnedMatrix w = random_matrix(*type, 19, type->block == 1 ? 70 : 2 * std::max(type->block, 32), 5);
      fill_codes(w, filling);
      SCOPED_TRACE(std::string(type->name) + " filled with " + std::to_string(filling));
      ASSERT_NO_FATAL_FAILURE(f(std::move(w)));
    }
  }
}
// [m, cols] of 127 and -127: those of a token are alike, or by turns, or alike but for every fifth; of either sign.
inline std::vector<float> largest_bytes(int64_t m, int64_t cols) {
  std::vector<float> x;
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t k = 0; k < cols; ++k) {
      const bool turned = i % 3 == 0 ? k % 5 == 0 : i % 3 == 2 && k % 2 == 0;
      x.push_back(turned == (i / 3 % 2 == 0) ? -127.0f : 127.0f);
    }
  }
  return x;
}

}  // namespace sonde::test
