#include "tensor/types.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <set>

#include "golden_file.h"
#include "support/assets.h"

namespace sonde {
namespace {

std::vector<float> unpack(const Type& type, const std::vector<std::byte>& blocks) {
  const int64_t n = int64_t(blocks.size()) / type.bytes;
  std::vector<float> out(std::size_t(n * type.block));
  type.unpack(blocks.data(), n, out.data());
  return out;
}

TEST(Types, NamesAndIdsAreUniqueAndFound) {
  std::set<std::string_view> names, dtypes;
  std::set<int> ids;
  for (const Type& type : all_types()) {
    SCOPED_TRACE(type.name);
    EXPECT_TRUE(names.insert(type.name).second);
    EXPECT_EQ(type_by_name(type.name), &type);
    if (type.ggml_id >= 0) {
      EXPECT_TRUE(ids.insert(type.ggml_id).second);
      EXPECT_EQ(type_by_ggml_id(type.ggml_id), &type);
    }
    if (!type.safetensors.empty()) {
      EXPECT_TRUE(dtypes.insert(type.safetensors).second);
      EXPECT_EQ(type_by_safetensors(type.safetensors), &type);
    }
    EXPECT_TRUE(type.ggml_id >= 0 || !type.safetensors.empty()) << "nobody can store it";
    EXPECT_GT(type.block, 0);
    EXPECT_GT(type.bytes, 0);
    EXPECT_EQ(type.row_bytes(type.block * 3), type.bytes * 3);
    EXPECT_TRUE(type.unpack || !(type.pack || type.is_quantised()));
  }
  EXPECT_EQ(type_by_ggml_id(-1), nullptr);
  EXPECT_EQ(type_by_ggml_id(4), nullptr);
  EXPECT_EQ(type_by_name("Q4"), nullptr);
  EXPECT_EQ(type_by_safetensors(""), nullptr);
  EXPECT_EQ(f32()->bytes, 4);
  EXPECT_EQ(f16()->name, "F16");
  EXPECT_EQ(bf16()->name, "BF16");
  EXPECT_FALSE(i32()->is_float());
}

TEST(Types, GoldenBlocksBitForBit) {
  const std::string path = test::find_golden("gguf/blocks.safetensors");
  ASSERT_FALSE(path.empty());
  const test::GoldenFile golden(path);
  int compared = 0;
  for (const auto& item : golden.header().items()) {
    if (!item.key().ends_with(".bytes")) continue;
    const std::string name = item.key().substr(0, item.key().size() - 6);
    SCOPED_TRACE(name);
    const Type* type = type_by_name(name);
    if (!type) {
      ADD_FAILURE() << "not in the table";
      continue;
    }
    ASSERT_EQ(golden.shape(item.key()).at(1), type->bytes);
    ASSERT_EQ(golden.shape(name + ".values").at(1), type->block);
    const auto expected = golden.values<uint32_t>(name + ".values");
    const auto found = unpack(*type, golden.values<std::byte>(item.key()));
    ASSERT_EQ(found.size(), expected.size());
    int64_t wrong = 0;
    for (std::size_t i = 0; i < found.size(); ++i) {
      if (std::bit_cast<uint32_t>(found[i]) == expected[i]) continue;
      if (wrong++ < 3) {
        ADD_FAILURE() << "block " << i / std::size_t(type->block) << " element " << i % std::size_t(type->block) << ": "
                      << found[i] << " for " << std::bit_cast<float>(expected[i]);
      }
    }
    EXPECT_EQ(wrong, 0);
    ++compared;
  }
  EXPECT_EQ(compared, 29);
}

// Each half value from its three fields, in double.
TEST(Types, EveryHalf) {
  std::vector<std::byte> blocks(65536 * 2);
  for (uint32_t h = 0; h < 65536; ++h) blocks[2 * h] = std::byte(h & 255), blocks[2 * h + 1] = std::byte(h >> 8);
  const auto values = unpack(*f16(), blocks);
  for (uint32_t h = 0; h < 65536; ++h) {
    const int exponent = h >> 10 & 31, fraction = h & 1023;
    EXPECT_EQ(std::signbit(values[h]), h >> 15 != 0);
    if (exponent == 31) {
      EXPECT_EQ(std::isnan(values[h]), fraction != 0);
      EXPECT_EQ(std::isinf(values[h]), fraction == 0);
      continue;
    }
    const double expected = exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24);
    ASSERT_EQ(std::fabs(values[h]), expected) << h;
    std::byte again[2];
    f16()->pack(&values[h], 1, again);
    ASSERT_EQ(uint32_t(again[0]) | uint32_t(again[1]) << 8, h);
  }
}

TEST(Types, EveryE4m3) {
  std::vector<std::byte> blocks(256);
  for (int b = 0; b < 256; ++b) blocks[std::size_t(b)] = std::byte(b);
  const auto values = unpack(*type_by_safetensors("F8_E4M3"), blocks);
  for (int b = 0; b < 256; ++b) {
    const int exponent = b >> 3 & 15, fraction = b & 7;
    const float value = values[std::size_t(b)];
    if ((b & 127) == 127) {
      EXPECT_TRUE(std::isnan(value));
      continue;
    }
    EXPECT_EQ(std::fabs(value), exponent ? std::ldexp(8 + fraction, exponent - 10) : std::ldexp(fraction, -9)) << b;
    EXPECT_EQ(std::signbit(value), b >= 128);
  }
  EXPECT_EQ(values[0x7E], 448.0f);
}

TEST(Types, EveryE8m0) {
  std::vector<std::byte> blocks(256);
  for (int b = 0; b < 256; ++b) blocks[std::size_t(b)] = std::byte(b);
  const auto values = unpack(*type_by_safetensors("F8_E8M0"), blocks);
  for (int b = 0; b < 255; ++b) EXPECT_EQ(values[std::size_t(b)], std::ldexp(1.0, b - 127)) << b;
  EXPECT_TRUE(std::isnan(values[255]));
}

TEST(Types, DoublesRoundToFloat) {
  const double doubles[3] = {1.0 + 0x1p-24, -0.0, 1e300};
  std::vector<std::byte> blocks(sizeof doubles);
  std::memcpy(blocks.data(), doubles, sizeof doubles);
  const auto values = unpack(*type_by_safetensors("F64"), blocks);
  EXPECT_EQ(values[0], 1.0f);
  EXPECT_TRUE(std::signbit(values[1]) && values[1] == 0);
  EXPECT_EQ(values[2], std::numeric_limits<float>::infinity());
}

}  // namespace
}  // namespace sonde
