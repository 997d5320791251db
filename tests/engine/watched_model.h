// A model between the engine and another one: tells a test of every layer, and asks the engine before and after.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "model/model.h"

namespace sonde::test {

class WatchedModel final : public Model {
 public:
  explicit WatchedModel(std::unique_ptr<Model> inner) : inner_(std::move(inner)) {}

  const ModelConfig& config() const override { return inner_->config(); }
  KvLayout kv_layout() const override { return inner_->kv_layout(); }
  bool has_mtp() const override { return inner_->has_mtp(); }
  Work work_per_token() const override { return inner_->work_per_token(); }
  Choice choice_per_token() const override { return inner_->choice_per_token(); }
  int64_t parameters() const override { return inner_->parameters(); }
  int64_t active_parameters() const override { return inner_->active_parameters(); }
  int64_t owned_bytes() const override { return inner_->owned_bytes(); }
  int64_t mapped_bytes() const override { return inner_->mapped_bytes(); }
  Packed packed() const override { return inner_->packed(); }
  bool move_weights(ThreadPool&) override { return moved++ < to_move; }

  bool forward(ThreadPool& pool, std::span<const SequenceChunk> chunks, ForwardResult& out, Probe* probe,
               const StepWatch& watch) override {
    const int64_t step = begun++;
    tokens.push_back(0);
    for (const SequenceChunk& chunk : chunks) tokens.back() += static_cast<int64_t>(chunk.tokens.size());
    const bool done = inner_->forward(pool, chunks, out, probe, [&](int64_t layer, int64_t layers) {
      while (watch(layer, layers)) {
        if (at_layer) at_layer(step, layer);
        if (!endless) return watch(layer, layers);
        std::this_thread::yield();
      }
      return false;
    });
    if (!done) ++given_up;
    for (const SequenceChunk& chunk : chunks)
      if (done && chunk.logits == Logits::kAll) judged += static_cast<int64_t>(chunk.tokens.size()) - 1;
    return done;
  }
  void forward_mtp(ThreadPool& pool, const SequenceChunk& next, std::span<const float> final,
                   ForwardResult& out) override {
    inner_->forward_mtp(pool, next, final, out);
  }

  std::function<void(int64_t step, int64_t layer)> at_layer;  // on the engine's thread; set before the first request
  std::atomic<bool> endless = false;                          // a layer ends only when the step is given up
  std::atomic<int64_t> begun = 0, given_up = 0;               // steps
  std::atomic<int64_t> judged = 0;                            // drafts in whole steps
  std::vector<int64_t> tokens;                                // of each step; read when none runs
  std::atomic<int64_t> moved = 0;                             // calls of move_weights()
  int64_t to_move = 0;                                        // so many of them find something; set before the engine

 private:
  std::unique_ptr<Model> inner_;
};

}  // namespace sonde::test
