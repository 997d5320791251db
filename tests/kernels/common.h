// Shared by the kernel tests: random matrices of every type, and a loop over the instruction sets of this processor.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/random.h"
#include "kernels/amx_model.h"
#include "kernels/amx_processor.h"
#include "kernels/kernels.h"
#include "kernels/reference.h"
#include "tensor/types.h"

namespace sonde::test {

inline constexpr double kEps = 0x1p-24;  // half a unit in the last place of 1

inline std::vector<float> normals(std::size_t n, uint64_t seed, float scale = 1) {
  Random random(seed);
  std::vector<float> x(n);
  for (float& v : x) v = float(random.normal()) * scale;
  return x;
}

// A matrix that owns its bytes: random blocks whose values are finite and of moderate size.
struct OwnedMatrix {
  std::vector<std::byte> bytes, scale_bytes;
  Matrix view;
};

// Random bytes; blocks with values that are not finite or beyond 2^40 are drawn again.
inline OwnedMatrix random_matrix(const Type& type, int64_t rows, int64_t cols, uint64_t seed) {
  OwnedMatrix m;
  Random random(seed);
  m.bytes.resize(std::size_t(rows * type.row_bytes(cols)) + 1);
  std::byte* data = m.bytes.data();
  std::vector<float> values(std::size_t(type.block));
  for (int64_t b = 0; b < rows * (cols / type.block); ++b) {
    std::byte* block = data + b * type.bytes;
    for (bool good = false; !good;) {
      if (type.name == "F32" || type.name == "F64" || type.name == "BF16" || type.name == "F16") {
        const double v = random.normal();
        const float f = float(v);
        uint32_t bits;
        std::memcpy(&bits, &f, 4);
        if (type.name == "F32") std::memcpy(block, &f, 4);
        if (type.name == "F64") std::memcpy(block, &v, 8);
        if (type.name == "BF16") bits >>= 16, std::memcpy(block, &bits, 2);
        if (type.name == "F16") bits = 0x3000 | (random.next_u32() & 0x8FFF), std::memcpy(block, &bits, 2);
      } else {
        for (int i = 0; i < type.bytes; ++i) block[i] = std::byte(random.next_u32());
      }
      type.unpack(block, 1, values.data());
      good = true;
      for (float v : values) good = good && v - v == 0 && v < 0x1p40f && v > -0x1p40f;
    }
  }
  m.view = Matrix{&type, data, rows, cols, type.row_bytes(cols)};
  return m;
}

// A scale for every 128 x 128 values: of ordinary size; where the type can say so the second is 0 and the last large.
inline void add_block_scales(OwnedMatrix& m, const Type& type, uint64_t seed) {
  const int64_t cols = (m.view.cols + 127) / 128, count = (m.view.rows + 127) / 128 * cols;
  m.scale_bytes.resize(std::size_t(count * type.bytes));
  Random random(seed);
  for (int64_t i = 0; i < count; ++i) {
    float scale = float(random.uniform()) + 0.1f;
    if (count > 2 && i == 1) scale = 0;
    if (count > 2 && i == count - 1) scale *= 0x1p20f;
    std::byte* const out = &m.scale_bytes[std::size_t(i * type.bytes)];
    if (type.name == "F32") std::memcpy(out, &scale, 4);
    if (type.name == "BF16") to_bf16(&scale, 1, out);
    if (type.name == "F8_E8M0") *out = std::byte(120 + random.next_u32() % 12);
  }
  m.view.scales = m.scale_bytes.data(), m.view.scale_type = &type, m.view.scale_cols = cols;
}

inline std::vector<const Type*> weight_types() {
  std::vector<const Type*> types;
  for (const Type& type : all_types()) {
    if (type.unpack != nullptr) types.push_back(&type);
  }
  return types;
}

inline const kernels::InstructionSet& set_named(std::string_view name) {
  for (const kernels::InstructionSet* set : kernels::instruction_sets()) {
    if (set->name == name) return *set;
  }
  std::abort();
}

// As choose_kernel_set(), which offers a product's users no model.
inline Status choose(std::string_view set) {
#if defined(__x86_64__)
  if (set == "amx_model" || set == "amx_trapped") {
    if (!cpu_features().avx512_vnni) return Error{Code::kUnsupported, "without AVX-512 VNNI", "", "", "", ""};
    CpuFeatures f = cpu_features();
    if (set == "amx_trapped" && (f.amx_int8 || f.amx_bf16 || f.amx_refused)) return Error{Code::kUnsupported, "its instructions do not trap", "", "", "", ""};
    if (set == "amx_trapped") amx::serve_instructions();
    const kernels::KernelTable& fewer = *kernels::table_named("avx512_vnni");
    f.amx_bf16 = true;
    kernels::use_table(set == "amx_model" ? kernels::amx_model_table(fewer) : set_named("amx").table(&fewer, f));
    return {};
  }
#endif
  return choose_kernel_set(set);
}

inline std::vector<float> rounded_to_bf16(const std::vector<float>& x) {
  std::vector<std::byte> stored(2 * x.size());
  to_bf16(x.data(), int64_t(x.size()), stored.data());
  std::vector<float> out(x.size());
  bf16()->unpack(stored.data(), int64_t(x.size()), out.data());
  return out;
}

// A test body runs once for every set; sets that the processor lacks are named in the log.
class KernelSets : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    previous_ = std::string(kernel_set());
    const Status chosen = choose(GetParam());
    if (!chosen.ok()) GTEST_SKIP() << "this processor cannot run " << GetParam() << ": " << chosen.error().message();
  }
  void TearDown() override {
    ASSERT_TRUE(choose(previous_).ok());
  }

 private:
  std::string previous_;
};

inline std::vector<const char*> every_set() {
  std::vector<const char*> names;
  for (const kernels::InstructionSet* set : kernels::instruction_sets()) names.push_back(set->name);
  return names;
}

#define SONDE_EVERY_SET(Suite) \
  INSTANTIATE_TEST_SUITE_P(Sets, Suite, testing::ValuesIn(every_set()), [](const auto& set) { return std::string(set.param); })

}  // namespace sonde::test
