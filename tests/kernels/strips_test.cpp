// Products in integers of weights in strips.
#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/common.h"
#include "kernels/packed_matrix.h"
#include "kernels/table.h"
#include "kernels/truth.h"

namespace sonde::test {
namespace {

class Strips : public KernelSets {};
SONDE_EVERY_SET(Strips);
INSTANTIATE_TEST_SUITE_P(Models, Strips, testing::Values("amx_model"), [](const auto& set) { return std::string(set.param); });

struct ReadOnceRestored {
  const kernels::ReadOnce before = kernels::read_once;
  ~ReadOnceRestored() { kernels::read_once = before; }
};

TEST_P(Strips, AgreeWithReferenceForEveryType) {
  ThreadPool pool(2);
  for (const Type* type : packed_types()) {
    for (int64_t cols : {int64_t(type->block), int64_t(3 * type->block), int64_t(2048 + type->block)}) {
      for (int64_t rows : {1, 16, 53}) {
        const PackedMatrix w = packed_matrix(pool, *type, rows, cols, uint64_t(rows * 1000 + cols));
        for (int64_t m : {1, 2, 5, 8, 17}) {
          const int64_t ldx = cols + 3, ldy = rows + 1;
          const std::vector<float> x = normals(std::size_t(m * ldx), uint64_t(m)), bias = normals(std::size_t(rows), 8);
          std::vector<float> y(std::size_t(m * ldy), NAN);
          const float* b = m % 2 == 0 ? bias.data() : nullptr;
          matmul(pool, w.view, x.data(), m, ldx, y.data(), ldy, b);
          const Truth truth = strip_truth(w.view, x, m, ldx, b);
          ASSERT_NO_FATAL_FAILURE(expect_within(truth, y, m, ldy)) << type->name << ", " << cols << " columns";
        }
      }
    }
  }
}

// However memory is read, on whichever processor.
TEST_P(Strips, AreTheSameBitsInOneRunOfMemoryAndInTwoAndByNarrowRegisters) {
  const ReadOnceRestored restored;
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

// Every number of tokens that tiles of eight, sixteen and more can hold or leave over, of three layouts of codes.
TEST_P(Strips, AreTheSameBitsForEveryNumberOfTokens) {
  ThreadPool pool(2);
  for (const char* name : {"Q8_0", "Q5_K", "Q6_K"}) {
    const Type* type = type_by_name(name);
    const int64_t cols = 256 + type->block, rows = 53, m = 40;
    const PackedMatrix w = packed_matrix(pool, *type, rows, cols, 15);
    const std::vector<float> x = normals(std::size_t(m * cols), 16);
    std::vector<float> truth(std::size_t(m * rows));
    for (int64_t i = 0; i < m; ++i) {
      matmul(pool, w.view, &x[std::size_t(i * cols)], 1, cols, &truth[std::size_t(i * rows)], rows);
    }
    for (int64_t tokens = 2; tokens <= m; ++tokens) {
      std::vector<float> y(std::size_t(tokens * rows));
      matmul(pool, w.view, x.data(), tokens, cols, y.data(), rows);
      ASSERT_EQ(std::memcmp(y.data(), truth.data(), y.size() * 4), 0) << name << ", m " << tokens;
    }
  }
}

// The largest codes against the largest bytes of both signs, by each token's own strips and narrower ones: nothing may
// overflow on the way; and blocks of zeros.
TEST_P(Strips, TheLargestMagnitudesAreExact) {
  const ReadOnceRestored restored;
  ThreadPool pool(1);
  each_filling(packed_types(), [&](OwnedMatrix stored) {
    const PackedMatrix w = packed(pool, std::move(stored));
    const int64_t cols = w.view.cols, most = 17, ldy = w.view.rows + 1;
    const std::vector<float> x = largest_bytes(most, cols);
    const Truth truth = strip_truth(w.view, x, most, cols, nullptr);
    for (const bool narrow : {false, true}) {
      kernels::read_once.narrow = narrow;
      for (int64_t i = 0; i < 6; ++i) {
        std::vector<float> y(std::size_t(ldy), NAN);
        matmul(pool, w.view, &x[std::size_t(i * cols)], 1, cols, y.data(), ldy);
        ASSERT_NO_FATAL_FAILURE(expect_within(truth, y, 1, ldy, i)) << (narrow ? "narrow" : "its own");
      }
    }
    for (int64_t m : {2, 5, 8, 17}) {
      std::vector<float> y(std::size_t(m * ldy), NAN);
      matmul(pool, w.view, x.data(), m, cols, y.data(), ldy);
      ASSERT_NO_FATAL_FAILURE(expect_within(truth, y, m, ldy));
    }
  });
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

}  // namespace
}  // namespace sonde::test
