#include "model/layers.h"

namespace sonde {
namespace {

class Mlp final : public FeedForward {
 public:
  Matrix gate_proj, up_proj, down_proj;

  void forward(Step& step, Scratch& scratch, const float* x, float* y) const override {
    const int64_t rows = step.rows, width = gate_proj.rows, hidden = gate_proj.cols;
    float* gated = scratch.get(scratch.a, rows * width);
    step.multiply("gate+up", step.feed_forward(gate_proj, x, hidden, gated, width, up_proj));
    step.multiply("down", step.feed_forward(down_proj, gated, width, y, hidden));
  }
};

}  // namespace

Result<std::unique_ptr<FeedForward>> load_mlp(Loader& in, const std::string& prefix, int64_t intermediate_size) {
  auto mlp = std::make_unique<Mlp>();
  const int64_t hidden = in.config().hidden_size;
  SONDE_TRY(mlp->gate_proj, in.matrix(prefix + "gate_proj.weight", intermediate_size, hidden));
  SONDE_TRY(mlp->up_proj, in.matrix(prefix + "up_proj.weight", intermediate_size, hidden));
  SONDE_TRY(mlp->down_proj, in.matrix(prefix + "down_proj.weight", hidden, intermediate_size));
  return std::unique_ptr<FeedForward>(std::move(mlp));
}

}  // namespace sonde
