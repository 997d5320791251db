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
