// The packed form: which types have it, what it refuses, its slices.
#include <algorithm>
#include <array>

#include "kernels/common.h"
#include "kernels/pack.h"
#include "kernels/packed_matrix.h"
#include "kernels/table.h"

namespace sonde::test {
namespace {

TEST(Packing, TheFormatsThatTheIntegerKernelsRead) {
  std::vector<std::string> names;
  for (const Type* type : packed_types()) {
    names.emplace_back(type->name);
    const Matrix whole{type, reinterpret_cast<const std::byte*>(type), 64, 1024, type->row_bytes(1024)};
    EXPECT_LE(double(packed_bytes(whole)), 1.03 * double(whole.bytes())) << type->name;
  }
  for (const char* name : {"Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "IQ4_NL", "MXFP4"}) {
    EXPECT_TRUE(std::find(names.begin(), names.end(), name) != names.end()) << name;
  }
}

// NaN and infinity at every place of a block: refused where, and only where, unpacking finds values that are not
// finite. Infinity as a half is so at the scale's place and the minimum's, where there is one; E8M0's NaN at its byte.
TEST(Packing, RefusesScalesThatAreNotFinite) {
  ThreadPool pool(1);
  constexpr std::array<std::byte, 2> kInfinity{std::byte(0x00), std::byte(0x7C)};
  constexpr std::array<std::byte, 2> kMinusInfinity{std::byte(0x00), std::byte(0xFC)};
  constexpr std::array<std::byte, 2> kNan{std::byte(0x01), std::byte(0x7E)}, kAllOnes{std::byte(0xFF), std::byte(0xFF)};
  for (const Type* type : packed_types()) {
    OwnedMatrix w = random_matrix(*type, 20, 2 * type->block, 2);
    std::byte* const block = w.bytes.data() + 17 * w.view.row_bytes + type->bytes;
    std::vector<float> values(std::size_t(type->block));
    AlignedVector<std::byte> strips(std::size_t(packed_bytes(w.view)));
    int infinite = 0, ones = 0;
    for (const auto& wrong : {kInfinity, kMinusInfinity, kNan, kAllOnes}) {
      for (int at = 0; at + 2 <= type->bytes; ++at) {
        std::array<std::byte, 2> right;
        std::copy_n(block + at, 2, right.begin());
        std::copy_n(wrong.begin(), 2, block + at);
        type->unpack(block, 1, values.data());
        const bool finite = all_finite(values.data(), type->block);
        const Status packed = pack(pool, w.view, strips.data());
        ASSERT_EQ(packed.ok(), finite) << type->name << ", byte " << at << ", high byte " << int(wrong[1]);
        if (!finite) {
          EXPECT_NE(packed.error().message().find("rows 16 to 19"), std::string::npos) << packed.error().message();
          EXPECT_EQ(w.view.packed, nullptr);
          infinite += wrong == kInfinity, ones += wrong == kAllOnes;
        }
        w.view.packed = nullptr;
        std::copy_n(right.begin(), 2, block + at);
      }
    }
    const bool min = kernels::table().strips[type - all_types().data()].min, e8m0 = type->name == "MXFP4";
    EXPECT_EQ(infinite, e8m0 ? 0 : 1 + min) << type->name;
    EXPECT_GE(ones, 1) << type->name;
  }
}

// The same for types without a packed form, whose blocks stay as they are; some have no place for a scale that is not finite.
TEST(Packing, ChecksBlocksThatStayAsStored) {
  ThreadPool pool(2);
  int types = 0, refused = 0;
  for (const Type* type : weight_types()) {
    if (!type->is_quantised()) continue;
    const int64_t cols = 4096 + type->block;  // more than is unpacked at once
    OwnedMatrix w = random_matrix(*type, 37, cols, 3);
    if (packed_bytes(w.view) > 0) continue;
    ++types;
    EXPECT_TRUE(check_blocks(pool, w.view).ok()) << type->name;
    std::vector<float> values(std::size_t(type->block));
    int bad = 0;
    for (int at = 0; at < type->bytes; ++at) {  // two bytes; the last: all of the block
      std::byte* const block = w.bytes.data() + 36 * w.view.row_bytes + (at % 2 == 0 ? w.view.row_bytes - type->bytes : 0);
      const std::vector<std::byte> right(block, block + type->bytes);
      if (at + 2 <= type->bytes) block[at] = std::byte(0xFF), block[at + 1] = std::byte(0x7F);
      else std::fill_n(block, type->bytes, std::byte(0xFF));
      type->unpack(block, 1, values.data());
      const bool finite = all_finite(values.data(), type->block);
      const Status checked = check_blocks(pool, w.view);
      ASSERT_EQ(checked.ok(), finite) << type->name << ", byte " << at;
      bad += !finite;
      if (!finite) {
        EXPECT_NE(checked.error().message().find("rows 32 to 36"), std::string::npos) << checked.error().message();
      }
      std::copy(right.begin(), right.end(), block);
    }
    refused += bad > 0;
  }
  EXPECT_GT(types, 10);
  EXPECT_EQ(refused, types - 1);  // NVFP4's NaN is 0, as ggml has it
}

TEST(Packing, SlicesOfWholeStripsStayPacked) {
  ThreadPool pool(1);
  const PackedMatrix w = packed_matrix(pool, *type_by_name("Q8_0"), 64, 128, 2);
  const std::vector<float> x = normals(128, 1);
  std::vector<float> all(64), part(32);
  matmul(pool, w.view, x.data(), 1, 128, all.data(), 64);
  const Matrix slice = w.view.slice(16, 32);
  ASSERT_NE(slice.packed, nullptr);
  matmul(pool, slice, x.data(), 1, 128, part.data(), 32);
  EXPECT_EQ(std::memcmp(part.data(), all.data() + 16, part.size() * 4), 0);
  EXPECT_EQ(w.view.slice(8, 32).packed, nullptr);
}

}  // namespace
}  // namespace sonde::test
