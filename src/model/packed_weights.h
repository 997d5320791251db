// The packed forms of a model's weights (kernels/pack.h), one after the other in one store.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/threads.h"
#include "sonde/result.h"
#include "tensor/tensor.h"

namespace sonde {

class PackedWeights {
 public:
  explicit PackedWeights(int threads) : pool_(threads) {}
  ~PackedWeights();
  PackedWeights(const PackedWeights&) = delete;
  PackedWeights& operator=(const PackedWeights&) = delete;

  // Packs w where its type has a packed form; else leaves it as it is. Errors: kCorrupt (a scale that is not finite),
  // kTooLarge (no memory).
  Status add(Matrix& w);
  // A matrix of its own from F32 values [rows, cols], rounded to Q8_0; cols must be a multiple of 32.
  Result<Matrix> add_values(const float* values, int64_t rows, int64_t cols);

  int64_t bytes() const { return bytes_; }  // taken so far
  ThreadPool& pool() { return pool_; }

 private:
  Result<std::byte*> take(int64_t bytes);

  struct Segment {
    std::byte* base;
    std::size_t size;
  };
  ThreadPool pool_;
  std::vector<Segment> segments_;
  int64_t used_ = 0;  // of the last segment
  int64_t bytes_ = 0;
};

}  // namespace sonde
