#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <map>

#include "base/random.h"
#include "golden_file.h"
#include "support/assets.h"
#include "tensor/types.h"

namespace sonde {
namespace {

std::vector<std::byte> pack(const Type& type, const std::vector<float>& values) {
  std::vector<std::byte> out(std::size_t(type.row_bytes(int64_t(values.size()))));
  type.pack(values.data(), int64_t(values.size()) / type.block, out.data());
  return out;
}
std::vector<float> unpack(const Type& type, const std::vector<std::byte>& blocks) {
  std::vector<float> out(blocks.size() / std::size_t(type.bytes) * std::size_t(type.block));
  type.unpack(blocks.data(), int64_t(blocks.size()) / type.bytes, out.data());
  return out;
}

// The types without a search have one right answer.
TEST(Pack, GoldenBytes) {
  const std::string path = test::find_golden("gguf/quantise.safetensors");
  if (path.empty()) SONDE_NEEDS_ASSETS();
  const test::GoldenFile golden(path);
  const auto rows = golden.values<float>("rows");
  for (const char* name : {"F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "MXFP4", "TQ1_0", "TQ2_0"}) {
    SCOPED_TRACE(name);
    const Type* type = type_by_name(name);
    ASSERT_TRUE(type && type->pack);
    const auto expected = golden.values<std::byte>(std::string(name) + ".plain");
    const auto found = pack(*type, rows);
    ASSERT_EQ(found.size(), expected.size());
    int64_t wrong = 0, first = -1;
    for (std::size_t i = 0; i < found.size(); ++i) {
      if (found[i] != expected[i] && wrong++ == 0) first = int64_t(i);
    }
    EXPECT_EQ(wrong, 0) << "first at byte " << first % type->bytes << " of block " << first / type->bytes;
  }
}

// Types with a search: mean-square error against what ggml's own search reaches, kind by kind.
TEST(Pack, SearchIsAsGoodAsGgml) {
  const std::string path = test::find_golden("gguf/quantise.safetensors");
  if (path.empty()) SONDE_NEEDS_ASSETS();
  const test::GoldenFile golden(path);
  const auto about = nlohmann::json::parse(std::ifstream(test::find_golden("gguf/quantise.json")));
  const auto rows = golden.values<float>("rows");
  const int64_t cols = golden.shape("rows").at(1);
  for (const auto& [name, bars] : about.at("types").items()) {
    const Type* type = type_by_name(name);
    if (!type || !type->pack || !bars.contains("plain")) continue;
    for (const auto& [kind, range] : about.at("kinds").items()) {
      SCOPED_TRACE(name + " " + kind);
      const int64_t begin = range[0], end = range[1];
      const std::vector<float> values(rows.begin() + begin * cols, rows.begin() + end * cols);
      const auto back = unpack(*type, pack(*type, values));
      double error = 0;
      for (std::size_t i = 0; i < values.size(); ++i) error += std::pow(double(back[i]) - double(values[i]), 2);
      error /= double(values.size());
      const double bar = bars.at("plain").at(kind).at("mse");
      EXPECT_LE(error, bar * 1.1 + 1e-30);
      if (std::getenv("SONDE_SHOW")) std::printf("%s %s %g of %g\n", name.c_str(), kind.c_str(), error, bar);
    }
  }
}

// Every packer: finite results, zeros stay zero, and an error within what the width of the codes allows.
TEST(Pack, RoundTrip) {
  Random random(7);
  std::vector<float> values(4096);
  for (float& v : values) v = float(random.normal());
  double power = 0;
  for (float v : values) power += double(v) * double(v);
  for (const Type& type : all_types()) {
    if (!type.pack) continue;
    SCOPED_TRACE(type.name);
    const auto back = unpack(type, pack(type, values));
    double error = 0;
    for (std::size_t i = 0; i < values.size(); ++i) error += std::pow(double(back[i]) - double(values[i]), 2);
    // A uniform quantiser of b bits over +-4 sigma has noise (8 / 2^b)^2 / 12; bits of scales count against it. Half
    // floats lose 2^-12 relative at most. Ternary types keep at least the sign of the largest values: less than the
    // power itself.
    const double bits = 8.0 * type.bytes / type.block;
    const double bound = bits < 2.5 ? 1.0 : std::pow(8 / std::pow(2.0, std::min(std::floor(bits), 10.0)), 2) / 3;
    EXPECT_LT(error / power, bound);
    for (float v : unpack(type, pack(type, std::vector<float>(4096)))) EXPECT_EQ(v, 0.0f);
  }
}

// What a type can hold comes back as it was: runs of 16 with the lowest code in each, scales from end to end.
std::vector<float> held(int low, int high, int first_scale, int last_scale, float step, int last_min, float min_step) {
  std::vector<float> values;
  for (int r = 0; r < 16; ++r) {
    const int scale = r == 0 ? first_scale : r == 1 ? last_scale : r, min = r == 0 ? last_min : r % (last_min + 1);
    for (int k = 0; k < 16; ++k) {
      const int code = low + (k == 0 ? 0 : (5 * k + r) % (high - low + 1));
      values.push_back(step * float(scale) * float(code) - min_step * float(min));
    }
  }
  return values;
}
TEST(Pack, WhatTheTypeHolds) {
  const std::pair<const char*, std::vector<float>> cases[] = {
      {"Q2_K", held(0, 3, 15, 1, 0x1p-7f, 15, 0x1p-8f)},  // scales and mins of 4 bits
      {"Q3_K", held(-4, 3, -32, 31, 0x1p-9f, 0, 0)},      // signed scales of 6 bits
      {"Q6_K", held(-32, 31, -128, 127, 0x1p-9f, 0, 0)},  // signed scales of 8 bits
  };
  for (const auto& [name, values] : cases) {
    SCOPED_TRACE(name);
    const Type& type = *type_by_name(name);
    const auto back = unpack(type, pack(type, values));
    ASSERT_EQ(back.size(), values.size());
    for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(back[i], values[i]) << i;
  }
}

// Sizes down to nothing and up to what a half scale can say: never worse than zeros.
TEST(Pack, ExtremesOfTwoAndThreeBits) {
  Random random(11);
  for (const char* name : {"Q2_K", "Q3_K"}) {
    const Type& type = *type_by_name(name);
    for (const float size : {1e-30f, 1e-12f, 1e-6f, 1.0f, 1e4f}) {
      SCOPED_TRACE(name);
      SCOPED_TRACE(size);
      std::vector<float> values(1024);
      double power = 0;
      for (float& v : values) v = size * float(random.normal()), power += double(v) * double(v);
      const auto back = unpack(type, pack(type, values));
      double error = 0;
      for (std::size_t i = 0; i < values.size(); ++i) error += std::pow(double(back[i]) - double(values[i]), 2);
      EXPECT_LE(error, power * (size < 1e-5f ? 1.0 : 0.12));  // scales are halves: below 2^-24 all is zero
    }
    for (const float v : unpack(type, pack(type, std::vector<float>(256, -3.0f)))) EXPECT_NEAR(v, -3.0f, 3 * 0x1p-4f);
  }
}

TEST(Pack, HalvesRoundToEven) {
  const std::map<float, uint16_t> cases = {{1.0f + 0x1p-11f, 0x3C00},
                                           {1.0f + 0x1.8p-10f, 0x3C02},
                                           {65504.0f, 0x7BFF},
                                           {65519.0f, 0x7BFF},
                                           {65520.0f, 0x7C00},
                                           {1e30f, 0x7C00},
                                           {0x1p-24f, 1},
                                           {0x1p-25f, 0},
                                           {0x1.8p-24f, 2},
                                           {-0x1p-14f, 0x8400},
                                           {-0.0f, 0x8000}};
  for (const auto& [value, expected] : cases) {
    uint16_t found;
    f16()->pack(&value, 1, reinterpret_cast<std::byte*>(&found));
    EXPECT_EQ(found, expected) << value;
  }
  const float nan = std::nanf("");
  uint16_t found;
  f16()->pack(&nan, 1, reinterpret_cast<std::byte*>(&found));
  EXPECT_GT(found & 0x7FFF, 0x7C00);
  bf16()->pack(&nan, 1, reinterpret_cast<std::byte*>(&found));
  EXPECT_GT(found & 0x7FFF, 0x7F80);
}

}  // namespace
}  // namespace sonde
