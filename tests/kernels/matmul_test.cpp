#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/common.h"
#include "kernels/pack.h"
#include "kernels/truth.h"

namespace sonde::test {
namespace {

class Matmul : public KernelSets {};
SONDE_EVERY_SET(Matmul);

void expect_near_reference(const Matrix& w, int64_t m, bool with_bias) {
  ThreadPool pool(2);
  const int64_t ldx = w.cols + 3, ldy = w.rows + 1;
  const std::vector<float> x = normals(std::size_t(m * ldx), 7), bias = normals(std::size_t(w.rows), 8);
  std::vector<float> y(std::size_t(m * ldy), NAN);
  const float* const b = with_bias ? bias.data() : nullptr;
  SCOPED_TRACE(w.type->name);
  matmul(pool, w, x.data(), m, ldx, y.data(), ldy, b);
  expect_within(exact_truth(w, x, m, ldx, b), y, m, ldy);
}

TEST_P(Matmul, AgreesWithReferenceForEveryType) {
  for (const Type* type : weight_types()) {
    const int64_t b = type->block;
    const int64_t widths[] = {b, b == 1 ? 37 : 3 * b, b == 1 ? 531 : (512 / b + 1) * b};
    for (int64_t cols : widths) {
      for (int64_t rows : {1, 7, 53}) {
        const OwnedMatrix w = random_matrix(*type, rows, cols, uint64_t(rows * 1000 + cols));
        for (int64_t m : {1, 2, 3, 5, 8, 17}) expect_near_reference(w.view, m, m % 2 == 0);
        if (HasFatalFailure()) return;
      }
    }
  }
}

// FP8 with a scale for every 128 x 128 block, F32 and power-of-two scales, ragged edges both ways.
TEST_P(Matmul, AgreesWithReferenceForBlockScales) {
  const Type* fp8 = type_by_name("F8_E4M3");
  ASSERT_NE(fp8, nullptr);
  for (const char* scale_name : {"F32", "F8_E8M0"}) {
    const Type* scale_type = type_by_name(scale_name);
    for (auto [rows, cols] : {std::pair<int64_t, int64_t>{5, 64}, {130, 300}, {256, 640}, {129, 1030}}) {
      OwnedMatrix w = random_matrix(*fp8, rows, cols, 11);
      add_block_scales(w, *scale_type, 5);
      for (int64_t m : {1, 4, 19}) expect_near_reference(w.view, m, false);
      std::vector<float> unpacked(std::size_t(3 * cols));
      unpack_rows(w.view, 1, 3, unpacked.data());
      for (int64_t r = 0; r < 3; ++r) {
        const std::vector<float> truth = reference::row(w.view, 1 + r);
        ASSERT_EQ(std::memcmp(truth.data(), &unpacked[std::size_t(r * cols)], std::size_t(cols) * 4), 0);
      }
      // A slice takes its own rows of the scales with it.
      if (rows > 128) expect_near_reference(w.view.slice(128, rows - 128), 2, false);
    }
  }
}

TEST_P(Matmul, UnpacksTheExactValues) {
  for (const Type* type : weight_types()) {
    const OwnedMatrix w = random_matrix(*type, 4, 3 * type->block, 99);
    std::vector<float> out(std::size_t(4 * w.view.cols));
    unpack_rows(w.view, 0, 4, out.data());
    for (int64_t r = 0; r < 4; ++r) {
      const std::vector<float> truth = reference::row(w.view, r);
      ASSERT_EQ(std::memcmp(truth.data(), &out[std::size_t(r * w.view.cols)], truth.size() * 4), 0) << type->name;
    }
  }
}

// The definition in kernels.h, word for word.
float dot_by_definition(const float* a, const float* b, int64_t n) {
  float lane[16] = {};
  for (int64_t k = 0; k < n; ++k) lane[k % 16] = std::fma(a[k], b[k], lane[k % 16]);
  for (int width = 8; width >= 1; width /= 2) {
    for (int j = 0; j < width; ++j) lane[j] += lane[j + width];
  }
  return lane[0];
}

// Every result is that dot, bit for bit: whatever the set, the number of rows, tokens, threads and products beside it.
TEST_P(Matmul, IsTheDotOfTheContractBitForBit) {
  ThreadPool one(1), two(2), three(3);
  for (const Type* type : weight_types()) {
    const int64_t cols = type->block == 1 ? 1100 : 1024 + type->block, rows = 61, m = 23;
    const OwnedMatrix w = random_matrix(*type, rows, cols, 3);
    const std::vector<float> x = normals(std::size_t(m * cols), 4);
    std::vector<float> truth(std::size_t(m * rows));
    for (int64_t r = 0; r < rows; ++r) {
      const std::vector<float> weights = reference::row(w.view, r);
      for (int64_t i = 0; i < m; ++i) {
        truth[std::size_t(i * rows + r)] = dot_by_definition(weights.data(), &x[std::size_t(i * cols)], cols);
      }
    }
    for (ThreadPool* pool : {&one, &two, &three}) {
      for (int64_t tokens : {1, 2, 3, 4, 5, 6, 7, 8, 13, 16, 17, 23}) {
        std::vector<float> y(std::size_t(tokens * rows));
        matmul(*pool, w.view, x.data(), tokens, cols, y.data(), rows);
        ASSERT_EQ(std::memcmp(y.data(), truth.data(), y.size() * 4), 0) << type->name << ", m " << tokens;
      }
      std::vector<float> y(truth.size());
      std::vector<Product> products;
      for (int64_t i = 0; i < m; ++i) {  // one product a token, as experts come; some have no token
        products.push_back({w.view, &x[std::size_t(i * cols)], 1, cols, &y[std::size_t(i * rows)], rows});
        products.push_back({w.view, nullptr, 0, cols, nullptr, rows});
      }
      matmul(*pool, products);
      ASSERT_EQ(std::memcmp(y.data(), truth.data(), y.size() * 4), 0) << type->name;
    }
  }
}

TEST_P(Matmul, ManyTokensAndOddShapes) {
  ThreadPool pool(2);
  const OwnedMatrix w = random_matrix(*bf16(), 101, 1537, 5);
  const int64_t m = 1030;  // more than one block of tokens, more than one chunk of k
  const std::vector<float> x = normals(std::size_t(m * 1537), 6);
  std::vector<float> y(std::size_t(m * 101)), alone(101);
  matmul(pool, w.view, x.data(), m, 1537, y.data(), 101);
  for (int64_t i : {0, 1, 511, 512, 513, 1029}) {
    matmul(pool, w.view, &x[std::size_t(i * 1537)], 1, 1537, alone.data(), 101);
    ASSERT_EQ(std::memcmp(alone.data(), &y[std::size_t(i * 101)], alone.size() * 4), 0) << "token " << i;
  }
}

// silu(x w^T) * (x up^T) in one: the bits of both products and their silu, for any two types, tokens, threads and strides.
TEST_P(Matmul, GateAndUpAreTheSameBitsAsApart) {
  ThreadPool one(1), two(2), three(3);
  const std::vector<const Type*> types = weight_types();
  for (std::size_t n = 0; n < types.size(); ++n) {
    const Type *type = types[n], *beside = types[n % 3 == 0 ? (n + 1) % types.size() : n];
    const int64_t block = std::max(type->block, beside->block), rows = 1 + int64_t(n * 37 % 90);
    const int64_t cols = block == 1 ? 300 : 2 * block, most = 40, ldx = cols + 3, ldy = rows + 2;
    const OwnedMatrix w = random_matrix(*type, rows, cols, n), up = random_matrix(*beside, rows, cols, n + 100);
    const std::vector<float> x = normals(std::size_t(most * ldx), 4);
    std::vector<float> apart(std::size_t(most * rows)), ups(apart.size());
    matmul(one, w.view, x.data(), most, ldx, apart.data(), rows);
    matmul(one, up.view, x.data(), most, ldx, ups.data(), rows);
    silu_mul(one, apart.data(), ups.data(), apart.data(), most * rows);
    for (ThreadPool* pool : {&one, &two, &three}) {
      for (int64_t m : {1, 2, 7, 8, 9, 24, 40}) {
        std::vector<float> y(std::size_t(m * ldy), NAN);
        const Product product{
            .w = w.view, .x = x.data(), .m = m, .ldx = ldx, .y = y.data(), .ldy = ldy, .up = up.view};
        matmul(*pool, std::span(&product, 1));
        for (int64_t i = 0; i < m; ++i) {
          ASSERT_EQ(std::memcmp(&y[std::size_t(i * ldy)], &apart[std::size_t(i * rows)], std::size_t(rows) * 4), 0)
              << type->name << ", m " << m << ", token " << i;
          ASSERT_TRUE(std::isnan(y[std::size_t(i * ldy + rows)])) << "wrote beyond the row";
        }
      }
    }
  }
}

class RowsByNumber : public KernelSets {};
SONDE_EVERY_SET(RowsByNumber);
INSTANTIATE_TEST_SUITE_P(Models, RowsByNumber, testing::Values("amx_model"), [](const auto& set) { return std::string(set.param); });

TEST_P(RowsByNumber, AreTheSameBitsInEveryForm) {
  ThreadPool pool(2);
  const int64_t rows = 40, cols = 512, tokens = 30, ldx = cols + 5;
  const std::vector<float> x = normals(std::size_t(tokens * ldx), 31);
  const int64_t m = 23;
  std::vector<int32_t> numbers[2];
  std::vector<float> laid[2];
  for (int which : {0, 1}) {
    for (int32_t i = 0; i < m; ++i) {
      numbers[which].push_back((i * 7 + 3 + which) % int32_t(tokens));
      const auto row = x.begin() + numbers[which].back() * ldx;
      laid[which].insert(laid[which].end(), row, row + cols);
    }
  }

  std::vector<OwnedMatrix> stored;
  for (const char* type : {"F32", "BF16", "F8_E4M3", "Q4_K", "F32", "BF16", "F8_E4M3", "Q4_K"})
    stored.push_back(random_matrix(*type_by_name(type), rows, cols, 40 + stored.size()));
  std::vector<Matrix> w;
  for (const OwnedMatrix& matrix : stored) w.push_back(matrix.view);
  AlignedVector<std::byte> packed[2];
  for (const std::size_t i : {std::size_t{3}, std::size_t{7}}) {
    AlignedVector<std::byte>& bytes = packed[i / 4];
    bytes.resize(std::size_t(packed_bytes(w[i])));
    ASSERT_TRUE(pack_rows(pool, w[i], 0, rows, bytes.data()).ok());
    use_packed(w[i], bytes.data());
  }
  for (const std::size_t i : {std::size_t{1}, std::size_t{5}}) w[i].by_pairs = true;
  for (const std::size_t i : {std::size_t{2}, std::size_t{6}}) w[i].by_values = true;

  // Each form with each list, alone and gated, all in one call; one product of no rows.
  std::vector<float> by_number(std::size_t(16 * m * rows)), in_order(by_number.size());
  std::vector<Product> products, plain;
  for (std::size_t i = 0; i < 16; ++i) {
    const Matrix up = i < 8 ? Matrix{} : w[i / 2 - 4];
    const std::size_t at = i * std::size_t(m * rows), which = i % 2;
    products.push_back({w[i / 2], x.data(), m, ldx, &by_number[at], rows, nullptr, up, numbers[which].data()});
    plain.push_back({w[i / 2], laid[which].data(), m, cols, &in_order[at], rows, nullptr, up});
  }
  products.push_back({w[0], x.data(), 0, ldx, nullptr, rows, nullptr, {}, numbers[0].data()});
  matmul(pool, std::span(&products.back(), 1));
  matmul(pool, products), matmul(pool, plain);
  EXPECT_EQ(std::memcmp(by_number.data(), in_order.data(), by_number.size() * 4), 0);
}

TEST_P(Matmul, ZerosAndNonFiniteValuesStayInTheirPlace) {
  ThreadPool pool(2);
  for (const Type* type : weight_types()) {
    const int64_t cols = 2 * std::max(type->block, 16), rows = 9, m = 9;
    OwnedMatrix w = random_matrix(*type, rows, cols, 21);
    std::vector<float> x = normals(std::size_t(m * cols), 22), y(std::size_t(m * rows));
    for (int64_t k = 0; k < cols; ++k) x[std::size_t(k)] = 0, x[std::size_t(cols + k)] = NAN;
    x[std::size_t(2 * cols + 3)] = INFINITY;
    matmul(pool, w.view, x.data(), m, cols, y.data(), rows);
    for (int64_t r = 0; r < rows; ++r) {
      ASSERT_EQ(y[std::size_t(r)], 0.0f) << type->name;
      ASSERT_TRUE(std::isnan(y[std::size_t(rows + r)])) << type->name;
      ASSERT_FALSE(std::isfinite(y[std::size_t(2 * rows + r)])) << type->name;
      for (int64_t i = 3; i < m; ++i) ASSERT_TRUE(std::isfinite(y[std::size_t(i * rows + r)])) << type->name;
    }
  }
  // Largest magnitudes: exact while they fit, infinite beyond.
  OwnedMatrix w = random_matrix(*f32(), 1, 16, 1);
  std::vector<float> big(16, 0x1p100f), x(16, 0x1p23f), y(1);
  std::memcpy(w.bytes.data(), big.data(), 64);
  matmul(pool, w.view, x.data(), 1, 16, y.data(), 1);
  ASSERT_EQ(y[0], 0x1p127f);
  x.assign(16, 0x1p25f);
  matmul(pool, w.view, x.data(), 1, 16, y.data(), 1);
  ASSERT_TRUE(std::isinf(y[0]));
}

}  // namespace
}  // namespace sonde::test
