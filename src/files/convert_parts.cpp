#include "files/convert_parts.h"

#include <cmath>
#include <cstring>
#include <numbers>

namespace sonde {

TensorBytes pair_rows(const Tensor& tensor, int64_t heads, bool to_neighbours) {
  const int64_t rows = tensor.dim(0), dim = rows / heads, half = dim / 2;
  const std::size_t row = tensor.bytes.size() / static_cast<std::size_t>(rows);
  TensorBytes out(tensor.bytes.size());
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t head = r / dim, i = r % dim;
    const int64_t paired = head * dim + (i < half ? 2 * i : 2 * (i - half) + 1);  // where row r of the halves goes
    const auto from = static_cast<std::size_t>(to_neighbours ? r : paired),
               to = static_cast<std::size_t>(to_neighbours ? paired : r);
    std::memcpy(out.data() + to * row, tensor.bytes.data() + from * row, row);
  }
  return out;
}

TensorBytes take_k_b(const Tensor& kv_b, int64_t heads, int64_t nope) {
  const auto h = static_cast<std::size_t>(heads), n = static_cast<std::size_t>(nope);
  const auto width = static_cast<std::size_t>(kv_b.type->bytes), rank = static_cast<std::size_t>(kv_b.dim(1));
  const std::size_t rows = static_cast<std::size_t>(kv_b.dim(0)) / h;
  TensorBytes out(h * rank * n * width);
  for (std::size_t head = 0; head < h; ++head) {
    for (std::size_t r = 0; r < rank; ++r) {
      for (std::size_t i = 0; i < n; ++i) {
        std::memcpy(&out[((head * rank + r) * n + i) * width], &kv_b.bytes[((head * rows + i) * rank + r) * width],
                    width);
      }
    }
  }
  return out;
}

TensorBytes take_v_b(const Tensor& kv_b, int64_t heads, int64_t nope) {
  const auto h = static_cast<std::size_t>(heads);
  const std::size_t rows = static_cast<std::size_t>(kv_b.dim(0)) / h, row = kv_b.bytes.size() / (rows * h);
  const std::size_t skip = static_cast<std::size_t>(nope) * row, keep = rows * row - skip;
  TensorBytes out(h * keep);
  for (std::size_t head = 0; head < h; ++head) {
    std::memcpy(out.data() + head * keep, kv_b.bytes.data() + head * rows * row + skip, keep);
  }
  return out;
}

TensorBytes join_kv_b(const Tensor& k_b, const Tensor& v_b) {
  const auto heads = static_cast<std::size_t>(k_b.dim(0)), rank = static_cast<std::size_t>(k_b.dim(1));
  const auto nope = static_cast<std::size_t>(k_b.dim(2)), v = static_cast<std::size_t>(v_b.dim(1));
  const auto width = static_cast<std::size_t>(k_b.type->bytes);
  TensorBytes out(heads * (nope + v) * rank * width);
  for (std::size_t head = 0; head < heads; ++head) {
    std::byte* to = out.data() + head * (nope + v) * rank * width;
    for (std::size_t i = 0; i < nope; ++i) {
      for (std::size_t r = 0; r < rank; ++r) {
        std::memcpy(to + (i * rank + r) * width, &k_b.bytes[((head * rank + r) * nope + i) * width], width);
      }
    }
    std::memcpy(to + nope * rank * width, &v_b.bytes[head * v * rank * width], v * rank * width);
  }
  return out;
}

TensorBytes in_type(const Tensor& tensor, const Type& type) {
  if (tensor.type == &type) return {tensor.bytes.begin(), tensor.bytes.end()};
  const auto count = static_cast<std::size_t>(tensor.count());
  std::vector<float> values(count), again(count);
  tensor.type->unpack(tensor.bytes.data(), static_cast<int64_t>(count), values.data());
  TensorBytes out(count * static_cast<std::size_t>(type.bytes));
  type.pack(values.data(), static_cast<int64_t>(count), out.data());
  type.unpack(out.data(), static_cast<int64_t>(count), again.data());
  if (std::memcmp(values.data(), again.data(), count * sizeof(float)) != 0) out.clear();
  return out;
}

std::vector<float> llama3_factors(double theta, int64_t dim, double factor, double low, double high, double original) {
  std::vector<float> out;
  for (int64_t i = 0; i < dim; i += 2) {
    const double wave = 2 * std::numbers::pi * std::pow(theta, static_cast<double>(i) / static_cast<double>(dim));
    const double smooth = (original / wave - low) / (high - low);
    if (wave < original / high)
      out.push_back(1.0f);
    else if (wave > original / low)
      out.push_back(static_cast<float>(factor));
    else
      out.push_back(static_cast<float>(1 / ((1 - smooth) / factor + smooth)));
  }
  return out;
}

}  // namespace sonde
