// Runs a model over one sequence with pages of its own, without the engine.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "base/threads.h"
#include "files/checkpoint.h"
#include "files/safetensors.h"
#include "model/model.h"

namespace sonde::test {

class Runner {
 public:
  explicit Runner(Model& model, int threads = 2) : model_(model), pool_(threads) {}

  // Feeds tokens behind those fed before; all logits.
  ForwardResult feed(std::span<const int32_t> tokens, bool absorbed = false, Probe* probe = nullptr,
                     Logits logits = Logits::kAll) {
    reserve(position_ + int64_t(tokens.size()));
    const SequenceChunk chunk{tokens, position_, pages_, absorbed, logits};
    ForwardResult out;
    model_.forward(pool_, std::span(&chunk, 1), out, probe);
    position_ += int64_t(tokens.size());
    return out;
  }
  AlignedVector<float> drafts(std::span<const int32_t> next, std::span<const float> final, int64_t start = 0) {
    ForwardResult out;
    model_.forward_mtp(pool_, {next, start, pages_, false, Logits::kAll}, final, out);
    return std::move(out.logits);
  }
  // Greedy continuation; the prompt in the expanded form, the rest token by token in the absorbed one.
  std::vector<int32_t> greedy(std::span<const int32_t> prompt, int count) {
    std::vector<int32_t> ids;
    ForwardResult out = feed(prompt, false, nullptr, Logits::kLast);
    while (int(ids.size()) < count) {
      ids.push_back(int32_t(std::max_element(out.logits.begin(), out.logits.end()) - out.logits.begin()));
      if (int(ids.size()) < count) out = feed(std::span(&ids.back(), 1), true, nullptr, Logits::kLast);
    }
    return ids;
  }
  std::span<std::byte* const> pages() const { return pages_; }

 private:
  void reserve(int64_t tokens) {
    while (int64_t(pages_.size()) * kPageTokens < tokens) {
      // All bits set, a NaN in every type: a record that is read before it is written spoils the result.
      storage_.push_back(AlignedVector<std::byte>(std::size_t(model_.kv_layout().page_bytes()), std::byte{0xFF}));
      pages_.push_back(storage_.back().data());
    }
  }
  Model& model_;
  ThreadPool pool_;
  std::vector<AlignedVector<std::byte>> storage_;
  std::vector<std::byte*> pages_;
  int64_t position_ = 0;
};

// Reference tensors of one expected.safetensors.
class Expected {
 public:
  static Result<Expected> open(const std::string& path) {
    SONDE_TRY(Safetensors file, open_safetensors(path));
    Expected e;
    e.file_ = std::move(file);
    return e;
  }
  bool has(const std::string& name) const { return file_.find(name) != nullptr; }
  std::vector<int64_t> shape(const std::string& name) const { return file_.find(name)->shape; }
  std::vector<float> floats(const std::string& name) const {
    const Tensor& t = *file_.find(name);
    std::vector<float> v(std::size_t(t.count()));
    t.type->unpack(t.bytes.data(), t.count(), v.data());
    return v;
  }
  std::vector<int32_t> ints(const std::string& name) const {
    const Tensor& t = *file_.find(name);
    const auto* data = reinterpret_cast<const int32_t*>(t.bytes.data());
    return {data, data + t.count()};
  }

 private:
  Safetensors file_;
};

// Standard deviation of the whole reference tensor: the unit of every tolerance on logits and hidden states.
inline double spread(std::span<const float> values) {
  double sum = 0, squares = 0;
  for (float v : values) sum += v;
  const double mean = sum / double(values.size());
  for (float v : values) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / double(values.size()));
}
// Largest |difference| over the reference's spread; infinity where sizes differ or a value is not finite.
inline double worst(std::span<const float> got, std::span<const float> want) {
  if (got.size() != want.size()) return INFINITY;
  double largest = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!std::isfinite(got[i])) return INFINITY;
    largest = std::max(largest, std::abs(double(got[i]) - double(want[i])));
  }
  return largest / spread(want);
}

}  // namespace sonde::test
