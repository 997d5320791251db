// What all layers of one forward pass share: rows, positions, pages, scratch.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/memory.h"
#include "base/threads.h"
#include "kernels/kernels.h"
#include "model/model.h"
#include "model/rope.h"

namespace sonde {

struct Step {
  ThreadPool& pool;
  std::span<const SequenceChunk> chunks;
  int64_t rows = 0;    // tokens of all chunks
  int64_t record = 0;  // floats a token and layer in the cache
  int64_t rope_dim = 0;
  int64_t layer = 0;                             // layer of the cache that is being computed
  std::vector<double> cosine, sine;              // [rows, rope_dim / 2]
  std::vector<int64_t> first_row;                // of each chunk
  std::vector<std::vector<const float*>> pages;  // of each chunk, in this layer
  std::vector<int32_t>* experts = nullptr;       // probe: [rows, k] of this layer, ascending

  Step(ThreadPool& threads, std::span<const SequenceChunk> what, const KvLayout& layout, const Rope& rope, int64_t dim)
      : pool(threads), chunks(what), record(layout.record), rope_dim(dim), pages(what.size()) {
    for (const SequenceChunk& chunk : chunks) first_row.push_back(rows), rows += int64_t(chunk.tokens.size());
    const int64_t half = rope_dim / 2;
    cosine.resize(std::size_t(rows * half)), sine.resize(std::size_t(rows * half));
    for (std::size_t c = 0; c < chunks.size(); ++c)
      for (int64_t i = 0; i < int64_t(chunks[c].tokens.size()); ++i) {
        const int64_t at = (first_row[c] + i) * half;
        rope.angles(chunks[c].start + i, cosine.data() + at, sine.data() + at);
      }
  }

  void enter_layer(int64_t index) {
    layer = index;
    for (std::size_t c = 0; c < chunks.size(); ++c) {
      pages[c].clear();
      for (float* page : chunks[c].pages) pages[c].push_back(page + layer * kPageTokens * record);
    }
  }

  void multiply(std::span<const Product> products) const { matmul(pool, products); }
  void multiply(const Product& product) const { matmul(pool, std::span(&product, 1)); }

  const double* cos_row(int64_t row) const { return cosine.data() + row * (rope_dim / 2); }
  const double* sin_row(int64_t row) const { return sine.data() + row * (rope_dim / 2); }

  // Where the record of a chunk's token lies: `position` counts from the start of the sequence.
  float* record_at(std::size_t chunk, int64_t position) const {
    return chunks[chunk].pages[std::size_t(position / kPageTokens)] +
           (layer * kPageTokens + position % kPageTokens) * record;
  }
};

// Scratch that grows once and is used again by every layer and step.
class Scratch {
 public:
  float* get(AlignedVector<float>& buffer, int64_t floats) {
    if (int64_t(buffer.size()) < floats) buffer.resize(std::size_t(floats));
    return buffer.data();
  }
  AlignedVector<float> x, y, a, b, c, d, e, f;
};

}  // namespace sonde
