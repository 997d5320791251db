#include "kernels/reference.h"

#include <algorithm>
#include <cmath>

namespace sonde::reference {

std::vector<float> row(const Matrix& w, int64_t r) {
  std::vector<float> out(std::size_t(w.cols));
  w.type->unpack(w.data + r * w.row_bytes, w.cols / w.type->block, out.data());
  if (w.scales == nullptr) return out;
  for (int64_t k = 0; k < w.cols; ++k) {
    float scale;
    const int64_t index = r / w.scale_block * w.scale_cols + k / w.scale_block;
    w.scale_type->unpack(w.scales + index * w.scale_type->bytes, 1, &scale);
    out[std::size_t(k)] *= scale;
  }
  return out;
}

Bounded matmul(const Matrix& w, const float* x, int64_t m, int64_t ldx, const float* bias) {
  Bounded y{std::vector<double>(std::size_t(m * w.rows)), std::vector<double>(std::size_t(m * w.rows))};
  for (int64_t r = 0; r < w.rows; ++r) {
    const std::vector<float> weights = row(w, r);
    for (int64_t i = 0; i < m; ++i) {
      double sum = bias ? double(bias[r]) : 0.0, bound = std::abs(sum);
      for (int64_t k = 0; k < w.cols; ++k) {
        const double product = double(weights[std::size_t(k)]) * double(x[i * ldx + k]);
        sum += product, bound += std::abs(product);
      }
      y.value[std::size_t(i * w.rows + r)] = sum, y.bound[std::size_t(i * w.rows + r)] = bound;
    }
  }
  return y;
}

std::vector<double> rms_norm(const float* x, int64_t ldx, const float* w, float eps, int64_t m, int64_t n) {
  std::vector<double> y(std::size_t(m * n));
  for (int64_t i = 0; i < m; ++i) {
    double sum = 0;
    for (int64_t k = 0; k < n; ++k) sum += double(x[i * ldx + k]) * double(x[i * ldx + k]);
    const double root = std::sqrt(sum / double(n) + double(eps));
    for (int64_t k = 0; k < n; ++k) y[std::size_t(i * n + k)] = double(w[k]) * double(x[i * ldx + k]) / root;
  }
  return y;
}

std::vector<double> silu_mul(const float* gate, const float* up, int64_t count) {
  std::vector<double> y(std::size_t(count), 0.0);
  for (int64_t i = 0; i < count; ++i) {
    y[std::size_t(i)] = double(gate[i]) / (1.0 + std::exp(-double(gate[i]))) * double(up[i]);
  }
  return y;
}

std::vector<double> rotate(const float* x, const double* cosine, const double* sine, int64_t n, bool halves) {
  std::vector<double> y(std::size_t(n), 0.0);
  for (int64_t i = 0; i < n / 2; ++i) {
    const int64_t a = halves ? i : 2 * i, b = halves ? i + n / 2 : 2 * i + 1;
    y[std::size_t(a)] = double(x[a]) * cosine[i] - double(x[b]) * sine[i];
    y[std::size_t(b)] = double(x[b]) * cosine[i] + double(x[a]) * sine[i];
  }
  return y;
}

Bounded attention(const AttentionShape& s, const AttentionRow& row) {
  const std::size_t size = std::size_t(s.heads * s.value_dim);
  Bounded y{std::vector<double>(size), std::vector<double>(size)};
  for (int64_t h = 0; h < s.heads; ++h) {
    const int64_t key_head = h * s.key_heads / s.heads;
    std::vector<double> scores;
    double most = -INFINITY, total = 0;
    const auto read = [&](int64_t t, int64_t offset, int64_t n) {
      std::vector<float> values(static_cast<std::size_t>(n));
      s.type->unpack(row.pages[t / s.page_tokens] + (t % s.page_tokens * s.record + offset) * s.type->bytes, n,
                     values.data());
      return values;
    };
    for (int64_t t = 0; t < row.length; ++t) {
      const std::vector<float> key = read(t, s.key_offset + key_head * s.key_stride, s.key_dim);
      double score = 0;
      for (int64_t k = 0; k < s.key_dim; ++k) score += double(row.q[h * s.key_dim + k]) * double(key[std::size_t(k)]);
      scores.push_back(score * double(s.scale));
      most = std::max(most, scores.back());
    }
    for (double& score : scores) total += score = std::exp(score - most);
    for (int64_t t = 0; t < row.length; ++t) {
      const std::vector<float> value = read(t, s.value_offset + key_head * s.value_stride, s.value_dim);
      for (int64_t d = 0; d < s.value_dim; ++d) {
        const double part = scores[std::size_t(t)] / total * double(value[std::size_t(d)]);
        y.value[std::size_t(h * s.value_dim + d)] += part, y.bound[std::size_t(h * s.value_dim + d)] += std::abs(part);
      }
    }
  }
  return y;
}

std::vector<double> softmax(const float* x, int64_t n) {
  std::vector<double> y(x, x + n);
  const double most = n > 0 ? *std::max_element(y.begin(), y.end()) : 0.0;
  double total = 0;
  for (double& v : y) total += v = std::exp(v - most);
  for (double& v : y) v /= total;
  return y;
}

}  // namespace sonde::reference
