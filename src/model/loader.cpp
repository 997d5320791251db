#include "model/layers.h"

#include <algorithm>

#include "kernels/pack.h"

namespace sonde {

std::string layer_name(int64_t layer, const char* rest) { return "model.layers." + std::to_string(layer) + "." + rest; }

Result<Matrix> Loader::matrix(const std::string& name, int64_t rows, int64_t cols, double share) {
  SONDE_TRY(Matrix m, checkpoint_.matrix(name, rows, cols));
  count(m, share);
  if (counting_ && share < 1) chosen_bytes += share * double(m.bytes());
  if (Status packed = pack(m); !packed.ok()) return std::move(packed).error().in(name);
  return m;
}

Result<Matrix> Loader::table(const std::string& name, int64_t rows, int64_t cols) {
  SONDE_TRY(const Matrix m, checkpoint_.matrix(name, rows, cols));
  count(m, 1.0 / double(rows));
  mapped_bytes += m.bytes();
  return m;
}

void Loader::count(const Matrix& m, double share) {
  if (!counting_) return;
  const double weights = double(m.rows) * double(m.cols);
  bytes_per_token += share * double(m.bytes()), weights_per_token += share * weights;
  parameters += weights, active_parameters += share * weights;
}

Status Loader::pack(Matrix& m) {
  if (packed_ != nullptr) {
    SONDE_CHECK(check_scales(m));
    SONDE_CHECK(packed_->add(m));
    // Rare quantised types and FP8, of which a value is read as fast as it comes.
    m.by_values = m.packed == nullptr && m.type->bytes < 2 * m.type->block;
    m.by_pairs = m.type == bf16() || m.type == f16() || m.type == f32();
    m.as_stored = m.type->is_float() && m.type != bf16();
    two_forms |= has_prompt_form(m);
    if (m.packed == nullptr) in_place.emplace_back(m.data, std::size_t(m.bytes()));
  }
  if (m.packed == nullptr) mapped_bytes += m.bytes();
  done_ += m.bytes();
  if (options_.progress && (packed_ == nullptr || packed_->packs()))
    options_.progress(std::min(done_, checkpoint_.file_bytes() - 1), checkpoint_.file_bytes());
  return {};
}

Result<Matrix> Loader::values(int64_t rows, int64_t cols, const std::function<void(float*)>& make,
                              std::vector<AlignedVector<float>>& owned, bool to_bytes) {
  if (packed_ != nullptr) {
    SONDE_TRY(Matrix m, packed_->add_values(rows, cols, to_bytes, make));
    m.by_pairs = m.as_stored = m.type == f16();
    return m;
  }
  make(owned.emplace_back(std::size_t(rows * cols)).data());
  Matrix m;
  m.type = f32(), m.data = reinterpret_cast<const std::byte*>(owned.back().data());
  m.rows = rows, m.cols = cols, m.row_bytes = cols * int64_t(sizeof(float));
  return m;
}

Result<std::vector<float>> Loader::vector(const std::string& name, int64_t count) {
  SONDE_TRY(std::vector<float> v, checkpoint_.vector(name, count));
  if (counting_) {
    const Tensor* stored = checkpoint_.find(name);
    bytes_per_token += stored ? double(stored->bytes.size()) : 0;
    parameters += double(count), active_parameters += double(count);
  }
  return v;
}

}  // namespace sonde
