#include <cmath>

#include "kernels/common.h"

namespace sonde::test {
namespace {

class Rows : public KernelSets {};
SONDE_EVERY_SET(Rows);

TEST_P(Rows, RmsNorm) {
  ThreadPool pool(2);
  for (int64_t n : {1, 5, 16, 37, 576, 1536}) {
    const int64_t m = 33, ldx = n + 5, ldy = n + 2;
    const std::vector<float> x = normals(std::size_t(m * ldx), 1, 3), w = normals(std::size_t(n), 2);
    std::vector<float> y(std::size_t(m * ldy), NAN);
    rms_norm(pool, x.data(), ldx, w.data(), 1e-6f, y.data(), ldy, m, n);
    const std::vector<double> truth = reference::rms_norm(x.data(), ldx, w.data(), 1e-6f, m, n);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t k = 0; k < n; ++k) {  // the inverse root, x times it, w times that: three roundings
        const double want = truth[std::size_t(i * n + k)];
        ASSERT_LE(std::abs(double(y[std::size_t(i * ldy + k)]) - want), 3.01 * kEps * std::abs(want));
      }
      std::vector<float> place(&x[std::size_t(i * ldx)], &x[std::size_t(i * ldx)] + n);
      rms_norm(pool, place.data(), n, w.data(), 1e-6f, place.data(), n, 1, n);
      ASSERT_EQ(std::memcmp(place.data(), &y[std::size_t(i * ldy)], std::size_t(n) * 4), 0);
    }
  }
}

TEST_P(Rows, SiluMul) {
  ThreadPool pool(2);
  std::vector<float> gate{0.0f, -0.0f, 1e-30f, -1e-30f, 88.0f, -88.0f, -103.0f, -120.0f, 1e30f, -1e30f, 20.0f, -20.0f};
  for (int i = -4000; i <= 4000; ++i) gate.push_back(float(i) * 0.02f);
  while (gate.size() < 40'001) gate.push_back(gate[gate.size() - 3000] * 1.1f);
  std::vector<float> up = normals(gate.size(), 3), out(gate.size());
  silu_mul(pool, gate.data(), up.data(), out.data(), int64_t(gate.size()));
  const std::vector<double> truth = reference::silu_mul(gate.data(), up.data(), int64_t(gate.size()));
  for (std::size_t i = 0; i < gate.size(); ++i) {
    // exp within 2 ulp (4 eps), the sum, the quotient, the product: 7 eps; below e^-87 the quotient is a denormal or zero.
    const double small = gate[i] < -80 ? std::abs(double(gate[i]) * double(up[i])) * 1e-34 : 0x1p-149;
    ASSERT_LE(std::abs(double(out[i]) - truth[i]), 7.01 * kEps * std::abs(truth[i]) + small) << gate[i];
  }
  silu_mul(pool, gate.data(), up.data(), gate.data(), int64_t(gate.size()));
  ASSERT_EQ(std::memcmp(gate.data(), out.data(), out.size() * 4), 0) << "in place differs";
  const float bad[3] = {NAN, INFINITY, -INFINITY}, one[3] = {1, 1, 1};
  float result[3];
  silu_mul(pool, bad, one, result, 3);
  ASSERT_TRUE(std::isnan(result[0]));
  ASSERT_EQ(result[1], INFINITY);
}

TEST_P(Rows, AddScaled) {
  for (int64_t n : {1, 15, 16, 100}) {
    const std::vector<float> x = normals(std::size_t(n), 4), y0 = normals(std::size_t(n), 5);
    std::vector<float> y = y0;
    add_scaled(y.data(), x.data(), 0.3f, n);
    for (std::size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], std::fma(0.3f, x[i], y0[i]));
  }
}

TEST_P(Rows, Softmax) {
  for (int64_t n : {1, 3, 16, 17, 1000, 129280}) {
    for (float spread : {0.1f, 5.0f, 60.0f}) {
      std::vector<float> x = normals(std::size_t(n), uint64_t(n), spread);
      const std::vector<double> truth = reference::softmax(x.data(), n);
      std::vector<float> p = x;
      softmax(p.data(), n);
      double total = 0;
      for (std::size_t i = 0; i < p.size(); ++i) {
        // The difference x - max rounds relative to itself (at most ~10 spread), then exp's 4 eps, the sum's, the quotient.
        const double relative = kEps * (12.0 * double(spread) + 16);
        ASSERT_LE(std::abs(double(p[i]) - truth[i]), relative * truth[i] + 0x1p-140) << n << " " << i;
        total += double(p[i]);
      }
      ASSERT_NEAR(total, 1.0, 1e-5);
    }
  }
  std::vector<float> masked{-INFINITY, 0.0f, -INFINITY, 0.0f};
  softmax(masked.data(), 4);
  ASSERT_EQ(masked, (std::vector<float>{0.0f, 0.5f, 0.0f, 0.5f}));
}

TEST_P(Rows, Sigmoid) {
  std::vector<float> x{0.0f, -0.0f, 1e-30f, 88.0f, -88.0f, -120.0f, 1e30f, -1e30f};
  for (int i = -500; i <= 500; ++i) x.push_back(float(i) * 0.1f);
  for (int64_t n : {int64_t{1}, int64_t{15}, int64_t{16}, int64_t{33}, int64_t(x.size())}) {
    std::vector<float> y(x.begin(), x.begin() + n);
    sigmoid(y.data(), n);
    for (std::size_t i = 0; i < y.size(); ++i) {
      // exp within 4 eps, the sum, the quotient; below e^-87 the quotient is a denormal or zero.
      const double truth = 1 / (1 + std::exp(-double(x[i])));
      ASSERT_LE(std::abs(double(y[i]) - truth), 6.01 * kEps * truth + (x[i] < -80 ? 1e-34 : 0)) << x[i];
    }
  }
}

TEST_P(Rows, Dot) {
  for (int64_t n : {0, 1, 15, 16, 17, 31, 64, 1000}) {
    const std::vector<float> a = normals(std::size_t(n + 1), 6), b = normals(std::size_t(n + 1), 7);
    double truth = 0, bound = 0;
    for (std::size_t i = 0; i < std::size_t(n); ++i) truth += double(a[i]) * double(b[i]), bound += std::abs(double(a[i]) * double(b[i]));
    ASSERT_LE(std::abs(double(dot(a.data(), b.data(), n)) - truth), kEps * double(n / 16 + 6) * bound);
  }
}

TEST_P(Rows, RotatesInF32) {
  for (int64_t n : {2, 8, 10, 64, 128}) {
    const std::vector<float> x = normals(std::size_t(n), 8);
    std::vector<double> cosine, sine;
    for (int64_t i = 0; i < n / 2; ++i) {
      cosine.push_back(std::cos(double(i + 1) * 0.37)), sine.push_back(std::sin(double(i + 1) * 0.37));
    }
    const std::vector<float> c(cosine.begin(), cosine.end()), s(sine.begin(), sine.end());
    for (bool halves : {false, true}) {
      std::vector<float> y = x;
      rotate(y.data(), c.data(), s.data(), n, halves);
      const std::vector<double> truth = reference::rotate(x.data(), cosine.data(), sine.data(), n, halves);
      for (int64_t i = 0; i < n / 2; ++i) {
        const std::size_t a = std::size_t(halves ? i : 2 * i), b = std::size_t(halves ? i + n / 2 : 2 * i + 1);
        // The tables are rounded, then two products and a sum.
        const double bound = 3 * 1.01 * kEps * (std::abs(double(x[a])) + std::abs(double(x[b])));
        ASSERT_LE(std::abs(double(y[a]) - truth[a]), bound);
        ASSERT_LE(std::abs(double(y[b]) - truth[b]), bound);
      }
    }
  }
}

// As the type table packs, bit for bit: ties to even, denormals, infinities, every kind of NaN.
TEST_P(Rows, RoundsToBf16) {
  Random random(11);
  for (int64_t n : {0, 1, 15, 16, 17, 40, 1003}) {
    std::vector<float> x(std::size_t(n), 0.0f);
    for (float& v : x) {
      uint32_t bits = random.next_u32();
      if (bits % 4 == 0) bits = (bits & 0xFFFF0000u) | 0x8000u;
      if (bits % 16 == 1) bits = 0x7FFFFFFFu;
      std::memcpy(&v, &bits, sizeof v);
    }
    std::vector<std::byte> got(std::size_t(2 * n) + 2, std::byte{7}), want = got;
    to_bf16(x.data(), n, got.data());
    bf16()->pack(x.data(), n, want.data());
    ASSERT_EQ(got, want) << n;
  }
}

TEST_P(Rows, RotatesExactly) {
  for (int64_t n : {2, 8, 16, 30, 64, 128}) {
    const std::vector<float> x = normals(std::size_t(n), 8);
    std::vector<double> cosine, sine;
    for (int64_t i = 0; i < n / 2; ++i) {
      cosine.push_back(std::cos(double(i + 1) * 0.37)), sine.push_back(std::sin(double(i + 1) * 0.37));
    }
    for (bool halves : {false, true}) {
      std::vector<float> y = x;
      rotate(y.data(), cosine.data(), sine.data(), n, halves);
      const std::vector<double> truth = reference::rotate(x.data(), cosine.data(), sine.data(), n, halves);
      for (std::size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], float(truth[i]));
    }
  }
  float pair[4] = {1, 0, 0, 1};
  const double cosine[2] = {0, 1}, sine[2] = {1, 0};  // a quarter turn of the first pair
  rotate(pair, cosine, sine, 4, false);
  ASSERT_EQ(std::vector<float>(pair, pair + 4), (std::vector<float>{0, 1, 0, 1}));
}

TEST(Finite, FindsTheOneBadValue) {
  std::vector<float> x = normals(1003, 9);
  ASSERT_TRUE(all_finite(x.data(), 1003));
  ASSERT_TRUE(all_finite(x.data(), 0));
  for (float bad : {INFINITY, -INFINITY, NAN}) {
    for (std::size_t at : {0, 500, 1002}) {
      const float good = x[at];
      x[at] = bad;
      ASSERT_FALSE(all_finite(x.data(), 1003));
      x[at] = good;
    }
  }
}

// The same bits from every set: the portable one is the measure.
TEST(Sets, GiveTheSameBits) {
  const std::string before(kernel_set());
  ThreadPool pool(2);
  std::vector<std::vector<float>> results;
  for (std::string_view set : kernel_sets()) {
    ASSERT_TRUE(choose_kernel_set(set).ok());
    std::vector<float> all, x = normals(4099, 10, 20), y(4099), w = normals(4099, 11);
    const auto keep = [&] { all.insert(all.end(), y.begin(), y.end()); };
    rms_norm(pool, x.data(), 4099, w.data(), 1e-5f, y.data(), 4099, 1, 4099), keep();
    silu_mul(pool, x.data(), w.data(), y.data(), 4099), keep();
    add_scaled(y.data(), x.data(), -1.7f, 4099), keep();
    y = x, softmax(y.data(), 4099), keep();
    y = x, sigmoid(y.data(), 4099), keep();
    summarise(x.data(), 4099, 0.7f, y.data(), y.data() + 2000), keep();
    y.assign(1, float(joined_total(y.data(), y.data() + 2000, 257, 90, 0.7f))), keep(), y.resize(4099);
    std::vector<double> cosine, sine;
    for (int i = 0; i < 2048; ++i) cosine.push_back(std::cos(i * 0.37)), sine.push_back(std::sin(i * 0.37));
    const std::vector<float> c(cosine.begin(), cosine.end()), s(sine.begin(), sine.end());
    for (bool halves : {false, true}) {
      y = x, rotate(y.data(), cosine.data(), sine.data(), 4090, halves), keep();
      y = x, rotate(y.data(), c.data(), s.data(), 4090, halves), keep();
    }
    for (int64_t n = 0; n < 100; ++n) all.push_back(dot(x.data(), w.data(), n));
    results.push_back(all);
  }
  for (const auto& other : results) ASSERT_EQ(std::memcmp(other.data(), results[0].data(), other.size() * 4), 0);
  ASSERT_TRUE(choose_kernel_set(before).ok());
}

TEST(Sets, UnknownNameIsAnErrorWithTheKnownOnes) {
  const std::string before(kernel_set());
  const Status status = choose_kernel_set("sse1");
  ASSERT_FALSE(status.ok());
  ASSERT_NE(status.error().message().find("portable"), std::string::npos);
  ASSERT_EQ(kernel_set(), before);
}

}  // namespace
}  // namespace sonde::test
