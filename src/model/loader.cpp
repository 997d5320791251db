#include "model/layers.h"

namespace sonde {

std::string layer_name(int64_t layer, const char* rest) { return "model.layers." + std::to_string(layer) + "." + rest; }

Result<Matrix> Loader::matrix(const std::string& name, int64_t rows, int64_t cols, double share) {
  SONDE_TRY(Matrix m, checkpoint_.matrix(name, rows, cols));
  if (counting_) {
    const double weights = double(rows) * double(cols);
    bytes_per_token += share * double(m.bytes()), weights_per_token += share * weights;
    parameters += weights, active_parameters += share * weights;
  }
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
