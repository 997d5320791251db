// Products in integers: the packed form, the rounding of x, and their sums.
#include <algorithm>
#include <cmath>

#include "kernels/common.h"
#include "kernels/pack.h"
#include "kernels/packed_matrix.h"
#include "kernels/table.h"
#include "tensor/quant/all.h"

namespace sonde::test {
namespace {

class Strips : public KernelSets {};
SONDE_EVERY_SET(Strips);
INSTANTIATE_TEST_SUITE_P(Models, Strips, testing::Values("amx_model"), [](const auto& set) { return std::string(set.param); });

// |scale * code| + |minimum| of each weight of row r: what the parts that are summed apart can reach.
template <class Q>
std::vector<double> parts_of(const Matrix& w, int64_t r) {
  std::vector<double> out;
  if constexpr (requires { typename Q::Strip; }) {
    using S = typename Q::Strip;
    namespace q = quant::portable;
    for (int64_t b = 0; b < w.cols / Q::kBlock; ++b) {
      q::Split split;
      Q::split(w.data + r * w.row_bytes + b * Q::kBytes, split);
      const double d = S::kE8m0 ? double(q::half_e8m0(uint8_t(split.d))) : double(q::half_to_float(split.d));
      for (int k = 0; k < Q::kBlock; ++k) {
        int code = int(split.codes[k]) - S::kZero;
        if constexpr (S::kHasTable) code = S::kTable[split.codes[k]];
        const double scale = S::kSub > 0 ? d * double(int8_t(split.scale[k / std::max(S::kSub, 1)])) : d;
        const double least = double(q::half_to_float(split.m)) * (S::kSub > 0 ? double(split.min[k / 32]) : 1.0);
        out.push_back(std::abs(scale * code) + (S::kMin ? std::abs(least) : 0.0));
      }
    }
  }
  return out;
}
double parts_bound(const Matrix& w, int64_t r, const float* x) {
  std::vector<double> parts;
#define SONDE_ROW(T) \
  if (w.type->name == quant::portable::T::kName) parts = parts_of<quant::portable::T>(w, r);
  SONDE_TYPES(SONDE_ROW)
#undef SONDE_ROW
  double bound = 0;
  for (std::size_t k = 0; k < parts.size(); ++k) bound += parts[k] * std::abs(double(x[k]));
  return bound;
}

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

// Against the weights as stored times the rounded x, in double. Every run costs at most six roundings (float of the
// integer sum, scale by sub-scale, by x's scale, the sum; the same for the minimum), relative to what has been summed.
TEST_P(Strips, AgreeWithReferenceForEveryType) {
  ThreadPool pool(2);
  for (const Type* type : packed_types()) {
    for (int64_t cols : {int64_t(type->block), int64_t(3 * type->block), int64_t(2048 + type->block)}) {
      for (int64_t rows : {1, 16, 53}) {
        const PackedMatrix w = packed_matrix(pool, *type, rows, cols, uint64_t(rows * 1000 + cols));
        for (int64_t m : {1, 2, 5, 8, 17}) {
          const int64_t ldx = cols + 3, ldy = rows + 1;
          const std::vector<float> x = normals(std::size_t(m * ldx), uint64_t(m)), bias = normals(std::size_t(rows), 8);
          const std::vector<float> seen = rounded(x, m, ldx, cols);
          std::vector<float> y(std::size_t(m * ldy), NAN);
          const float* b = m % 2 == 0 ? bias.data() : nullptr;
          matmul(pool, w.view, x.data(), m, ldx, y.data(), ldy, b);
          const reference::Bounded truth = reference::matmul(w.view, seen.data(), m, ldx, b);
          for (int64_t i = 0; i < m; ++i) {
            for (int64_t r = 0; r < rows; ++r) {
              const std::size_t at = std::size_t(i * rows + r);
              const double bound = parts_bound(w.view, r, &seen[std::size_t(i * ldx)]) + (b ? std::abs(double(b[r])) : 0);
              const double allowed = double(6 * (cols / 32) + 6) * (kEps * bound + 0x1p-131);  // denormal scales: half of the smallest float times a sum of 2^19
              ASSERT_LE(std::abs(double(y[std::size_t(i * ldy + r)]) - truth.value[at]), allowed)
                  << type->name << " " << rows << "x" << cols << ", m " << m << ": token " << i << ", row " << r;
            }
            ASSERT_TRUE(std::isnan(y[std::size_t(i * ldy + rows)])) << "wrote beyond the row";
          }
        }
      }
    }
  }
}

// However memory is read, on whichever processor.
TEST_P(Strips, AreTheSameBitsInOneRunOfMemoryAndInTwoAndByNarrowRegisters) {
  struct Restore {
    const kernels::ReadOnce before = kernels::read_once;
    ~Restore() { kernels::read_once = before; }
  } const restore;
  ThreadPool one(1), two(2);
  for (const Type* type : packed_types()) for (const int64_t rows : {9, 77, 597}) {  // strips: one, five, thirty-eight
    const int64_t cols = 256 + type->block, m = 8;
    const PackedMatrix w = packed_matrix(one, *type, rows, cols, 5), up = packed_matrix(one, *type, rows, cols, 6);
    const std::vector<float> x = normals(std::size_t(m * cols), 7), bias = normals(std::size_t(rows), 8);
    for (int64_t tokens = 1; tokens <= m; ++tokens) {
      std::vector<float> found[2][3];
      for (const bool runs : {false, true}) {
        kernels::read_once = {!runs, runs, runs};
        for (std::vector<float>& y : found[runs]) y.assign(std::size_t(tokens * rows), NAN);
        Product products[] = {{w.view, x.data(), tokens, cols, found[runs][0].data(), rows, bias.data(), {}},
                              {w.view, x.data(), tokens, cols, found[runs][1].data(), rows, nullptr, up.view},
                              {up.view, x.data(), tokens, cols, found[runs][2].data(), rows, nullptr, {}}};
        matmul(runs ? two : one, products);
      }
      for (int i = 0; i < 3; ++i) {
        ASSERT_EQ(std::memcmp(found[0][i].data(), found[1][i].data(), found[0][i].size() * 4), 0)
            << type->name << ", rows " << rows << ", m " << tokens << ", product " << i;
      }
    }
  }
}

// The same bits whatever stands beside a token, for any threads, with the gate's form, and for rows named by number.
TEST_P(Strips, AreTheSameBitsForAnyTokensThreadsAndProducts) {
  ThreadPool one(1), two(2), three(3);
  for (const Type* type : packed_types()) {
    const int64_t cols = 1024 + type->block, rows = 77, m = 29;
    const PackedMatrix w = packed_matrix(one, *type, rows, cols, 3), up = packed_matrix(one, *type, rows, cols, 4);
    const std::vector<float> x = normals(std::size_t(m * cols), 4);
    std::vector<float> truth(std::size_t(m * rows)), ups(truth.size()), gated(truth.size());
    for (int64_t i = 0; i < m; ++i) {
      matmul(one, w.view, &x[std::size_t(i * cols)], 1, cols, &truth[std::size_t(i * rows)], rows);
      matmul(one, up.view, &x[std::size_t(i * cols)], 1, cols, &ups[std::size_t(i * rows)], rows);
    }
    silu_mul(one, truth.data(), ups.data(), gated.data(), m * rows);
    for (ThreadPool* pool : {&one, &two, &three}) {
      for (int64_t tokens : {1, 2, 3, 4, 5, 6, 7, 8, 13, 16, 17, 29}) {
        std::vector<float> y(std::size_t(tokens * rows)), z(y.size());
        const Product both[] = {{w.view, x.data(), tokens, cols, y.data(), rows, nullptr, {}},
                                {w.view, x.data(), tokens, cols, z.data(), rows, nullptr, up.view}};
        matmul(*pool, both);
        ASSERT_EQ(std::memcmp(y.data(), truth.data(), y.size() * 4), 0) << type->name << ", m " << tokens;
        ASSERT_EQ(std::memcmp(z.data(), gated.data(), z.size() * 4), 0) << type->name << ", m " << tokens;
      }
      std::vector<float> y(truth.size());
      std::vector<Product> products;
      for (int64_t i = 0; i < m; ++i) {  // one product a token, as experts come; some have no token
        products.push_back({w.view, &x[std::size_t(i * cols)], 1, cols, &y[std::size_t(i * rows)], rows, nullptr, {}});
        products.push_back({w.view, nullptr, 0, cols, nullptr, rows, nullptr, {}});
      }
      matmul(*pool, products);
      ASSERT_EQ(std::memcmp(y.data(), truth.data(), y.size() * 4), 0) << type->name;

      // Rows of x by their numbers, one alone and then all: [0] w's, [1] w's and up's together.
      std::vector<int32_t> named(std::size_t{m});
      for (int64_t i = 0; i < m; ++i) named[std::size_t(i)] = int32_t(i * 7 % m);
      std::vector<float> alone[2] = {y, y}, all[2] = {y, y};
      products.clear();
      for (int64_t i = 0; i < m; ++i) {
        for (const bool gate : {false, true}) {
          products.push_back({w.view, x.data(), 1, cols, &alone[gate][std::size_t(i * rows)], rows, nullptr,
                              gate ? up.view : Matrix{}, &named[std::size_t(i)]});
        }
      }
      for (const bool gate : {false, true}) {
        products.push_back({w.view, x.data(), m, cols, all[gate].data(), rows, nullptr, gate ? up.view : Matrix{}, named.data()});
      }
      matmul(*pool, products);
      for (int64_t i = 0; i < m; ++i) {
        for (const bool gate : {false, true}) {
          const float* const expected = (gate ? gated : truth).data() + named[std::size_t(i)] * rows;
          ASSERT_EQ(std::memcmp(&alone[gate][std::size_t(i * rows)], expected, rows * 4), 0) << type->name << ", row " << i;
          ASSERT_EQ(std::memcmp(&all[gate][std::size_t(i * rows)], expected, rows * 4), 0) << type->name << ", row " << i;
        }
      }
    }
  }
}

TEST_P(Strips, AreTheSameBitsAsThePortableOnes) {
  ThreadPool pool(2);
  const std::string set(kernel_set());
  for (const Type* type : packed_types()) {
    const int64_t cols = 512 + type->block, rows = 40, m = 7;
    const PackedMatrix w = packed_matrix(pool, *type, rows, cols, 13);
    const std::vector<float> x = normals(std::size_t(m * cols), 14);
    std::vector<float> y(std::size_t(m * rows)), portable(y.size());
    matmul(pool, w.view, x.data(), m, cols, y.data(), rows);
    ASSERT_TRUE(choose_kernel_set("portable").ok());
    PackedMatrix again = packed_matrix(pool, *type, rows, cols, 13);
    ASSERT_TRUE(again.strips == w.strips) << type->name;
    matmul(pool, again.view, x.data(), m, cols, portable.data(), rows);
    ASSERT_TRUE(choose(set).ok());
    ASSERT_EQ(std::memcmp(y.data(), portable.data(), y.size() * 4), 0) << type->name;
  }
}

// The largest codes against the largest bytes of both signs: nothing may overflow on the way.
TEST_P(Strips, TheLargestMagnitudesAreExact) {
  ThreadPool pool(1);
  each_filling(pool, [&](const Matrix& w, const std::vector<float>& x) {
    std::vector<float> y(16);
    matmul(pool, w, x.data(), 1, w.cols, y.data(), 16);
    const reference::Bounded truth = reference::matmul(w, x.data(), 1, w.cols, nullptr);
    for (int64_t r = 0; r < 16; ++r) {
      const double bound = parts_bound(w, r, x.data());
      ASSERT_LE(std::abs(double(y[std::size_t(r)]) - truth.value[std::size_t(r)]), 20 * kEps * bound + 0x1p-140);
    }
  });
}

// Types without a packed form, by their values: each weight errs by half a step of its run at most, and x as above.
TEST_P(Strips, ValuesRoundedToBytesStayWithinHalfAStep) {
  ThreadPool pool(2);
  for (const Type* type : weight_types()) {
    if (type->bytes >= 2 * type->block) continue;
    const int64_t cols = type->block == 1 ? 300 : 512 + type->block, rows = 37, m = 7;
    OwnedMatrix w = random_matrix(*type, rows, cols, 31);
    w.view.by_values = true;
    const std::vector<float> x = normals(std::size_t(m * cols), 32);
    std::vector<float> y, alone;
    y.resize(std::size_t(m * rows)), alone.resize(std::size_t(rows));
    matmul(pool, w.view, x.data(), m, cols, y.data(), rows);
    for (int64_t i = 0; i < m; ++i) {
      matmul(pool, w.view, &x[std::size_t(i * cols)], 1, cols, alone.data(), rows);
      ASSERT_EQ(std::memcmp(alone.data(), &y[std::size_t(i * rows)], alone.size() * 4), 0) << type->name;
      for (int64_t r = 0; r < rows; ++r) {
        const std::vector<float> weights = reference::row(w.view, r);
        double truth = 0, allowed = 0x1p-131;
        for (int64_t k = 0; k < cols; k += 32) {
          double top_w = 0, top_x = 0;
          const int64_t end = std::min(cols, k + 32);
          for (int64_t j = k; j < end; ++j) {
            top_w = std::max(top_w, std::abs(double(weights[std::size_t(j)])));
            top_x = std::max(top_x, std::abs(double(x[std::size_t(i * cols + j)])));
          }
          for (int64_t j = k; j < end; ++j) {
            const double a = weights[std::size_t(j)], b = x[std::size_t(i * cols + j)];
            truth += a * b;
            allowed += (std::abs(a) * top_x + std::abs(b) * top_w) * 0.5001 / 127 + top_w * top_x * (0.2501 / 127 / 127 + 40 * kEps);
          }
        }
        ASSERT_LE(std::abs(double(y[std::size_t(i * rows + r)]) - truth), allowed) << type->name << ", row " << r;
      }
    }
  }
}

TEST_P(Strips, ZerosAndNonFiniteInputsStayInTheirPlace) {
  ThreadPool pool(2);
  for (const Type* type : packed_types()) {
    const int64_t cols = 2 * std::max(type->block, 32), rows = 17, m = 9;
    const PackedMatrix w = packed_matrix(pool, *type, rows, cols, 21);
    std::vector<float> x = normals(std::size_t(m * cols), 22), y(std::size_t(m * rows));
    for (int64_t k = 0; k < cols; ++k) x[std::size_t(k)] = 0;
    x[std::size_t(cols + 5)] = NAN, x[std::size_t(2 * cols + 3)] = INFINITY;
    matmul(pool, w.view, x.data(), m, cols, y.data(), rows);
    for (int64_t r = 0; r < rows; ++r) {
      ASSERT_EQ(y[std::size_t(r)], 0.0f) << type->name;
      ASSERT_FALSE(std::isfinite(y[std::size_t(rows + r)])) << type->name;
      ASSERT_FALSE(std::isfinite(y[std::size_t(2 * rows + r)])) << type->name;
      for (int64_t i = 3; i < m; ++i) ASSERT_TRUE(std::isfinite(y[std::size_t(i * rows + r)])) << type->name;
    }
  }
}

TEST(Packing, RefusesScalesThatAreNotFinite) {
  ThreadPool pool(2);
  for (const char* name : {"Q8_0", "Q4_K", "MXFP4"}) {
    const Type* type = type_by_name(name);
    OwnedMatrix w = random_matrix(*type, 40, 256, 2);
    std::byte* block = w.bytes.data() + 33 * w.view.row_bytes;
    block[0] = std::byte(0xFF), block[1] = std::byte(0x7E);  // a half NaN; E8M0's NaN
    AlignedVector<std::byte> strips(std::size_t(packed_bytes(w.view)));
    const Status packed = pack(pool, w.view, strips.data());
    ASSERT_FALSE(packed.ok()) << name;
    EXPECT_NE(packed.error().message().find("rows 32 to 39"), std::string::npos) << packed.error().message();
    EXPECT_EQ(w.view.packed, nullptr);
  }
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
