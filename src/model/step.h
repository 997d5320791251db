// What all layers of one forward pass share: rows, positions, pages, scratch.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/memory.h"
#include "base/profile.h"
#include "base/threads.h"
#include "kernels/kernels.h"
#include "model/model.h"
#include "model/rope.h"

namespace sonde {

// What a Step works out of its chunks; kept from step to step, so that a step of an answer allocates nothing.
struct StepTables {
  std::vector<double> cosine, sine;                  // [rows, rope_dim / 2]
  std::vector<float> cosine_f32, sine_f32;           // the same, for the fast path alone
  std::vector<int64_t> first_row;                    // of each chunk: answers' before prompts'
  std::vector<std::vector<const std::byte*>> pages;  // of each chunk, in this layer
};

struct Step {
  ThreadPool& pool;
  std::span<const SequenceChunk> chunks;
  int64_t rows = 0;    // tokens of all chunks
  int64_t answers = 0;  // rows of answers, the first
  int64_t record = 0;  // values a token and layer in the cache
  const Type* type;    // of these values
  int64_t rope_dim = 0;
  int64_t layer = 0;  // layer of the cache that is being computed
  std::vector<double>&cosine, &sine;
  std::vector<float>&cosine_f32, &sine_f32;
  std::vector<int64_t>& first_row;
  std::vector<std::vector<const std::byte*>>& pages;
  std::vector<int32_t>* experts = nullptr;  // probe: [rows, k] of this layer, ascending
  int64_t experts_read = 0;  // of the layers so far

  Step(ThreadPool& threads, std::span<const SequenceChunk> what, const KvLayout& layout, const Rope& rope, int64_t dim,
       StepTables& tables)
      : pool(threads),
        chunks(what),
        record(layout.record),
        type(layout.type),
        rope_dim(dim),
        cosine(tables.cosine),
        sine(tables.sine),
        cosine_f32(tables.cosine_f32),
        sine_f32(tables.sine_f32),
        first_row(tables.first_row),
        pages(tables.pages) {
    if (pages.size() < chunks.size()) pages.resize(chunks.size());
    first_row.resize(chunks.size());
    for (const bool answer : {true, false}) {
      for (std::size_t c = 0; c < chunks.size(); ++c) {
        if (chunks[c].absorbed == answer) first_row[c] = rows, rows += int64_t(chunks[c].tokens.size());
      }
      if (answer) answers = rows;
    }
    const int64_t half = rope_dim / 2;
    cosine.resize(std::size_t(rows * half)), sine.resize(std::size_t(rows * half));
    for (std::size_t c = 0; c < chunks.size(); ++c)
      for (int64_t i = 0; i < int64_t(chunks[c].tokens.size()); ++i) {
        const int64_t at = (first_row[c] + i) * half;
        rope.angles(chunks[c].start + i, cosine.data() + at, sine.data() + at);
      }
    if (exact()) return;
    cosine_f32.assign(cosine.begin(), cosine.end()), sine_f32.assign(sine.begin(), sine.end());
  }

  bool exact() const { return type == f32(); }
  int64_t prompts() const { return rows - answers; }  // the last rows

  void enter_layer(int64_t index) {
    layer = index;
    for (std::size_t c = 0; c < chunks.size(); ++c) {
      pages[c].clear();
      for (std::byte* page : chunks[c].pages) pages[c].push_back(page + layer * kPageTokens * record * type->bytes);
    }
  }

  // Of an attention: y = x w^T + bias for all rows, with their strides. The softmax makes much of small errors.
  Product projection(const Matrix& w, const float* x, int64_t ldx, float* y, int64_t ldy, const float* bias = nullptr) const {
    return {.w = w, .x = x, .m = rows, .ldx = ldx, .y = y, .ldy = ldy, .bias = bias, .prompt = prompts(), .fine = true};
  }
  // Of a feed-forward: y = x w^T, or with `up`, likewise.
  Product feed_forward(const Matrix& w, const float* x, int64_t ldx, float* y, int64_t ldy, const Matrix& up = {}) const {
    return {.w = w, .x = x, .m = rows, .ldx = ldx, .y = y, .ldy = ldy, .up = up, .prompt = prompts()};
  }
  // `what` names the operation in a profile.
  Profile::Scope timed(std::string_view what) const { return {pool.profile(), what}; }
  void multiply(std::string_view what, std::span<const Product> products) const;
  void multiply(std::string_view what, const Product& product) const { multiply(what, std::span(&product, 1)); }
  // rms_norm() over the first weight.size() values of rows with these strides.
  void norm(const float* x, int64_t ldx, const std::vector<float>& weight, double eps, float* y, int64_t ldy,
            int64_t count) const {
    const auto scope = timed("norms");
    rms_norm(pool, x, ldx, weight.data(), float(eps), y, ldy, count, int64_t(weight.size()));
  }
  // `values`: that a token of the cache holds for these heads. Rows of one sequence follow each other and share `pages`.
  void attend(const AttentionShape& shape, std::span<const AttentionRow> attending, int64_t values) const;

  // Turns one head vector of a row to the row's position.
  void rotate(int64_t row, float* x, bool halves) const {
    const int64_t at = row * (rope_dim / 2);
    if (exact()) return sonde::rotate(x, cosine.data() + at, sine.data() + at, rope_dim, halves);
    sonde::rotate(x, cosine_f32.data() + at, sine_f32.data() + at, rope_dim, halves);
  }

  // Where the record of a chunk's token lies, or one of `parts` equal parts of it: `position` counts from the start of
  // the sequence.
  std::byte* record_at(std::size_t chunk, int64_t position, int64_t part = 0, int64_t parts = 1) const {
    const int64_t before = layer * kPageTokens * record + (part * kPageTokens + position % kPageTokens) * (record / parts);
    return chunks[chunk].pages[std::size_t(position / kPageTokens)] + before * type->bytes;
  }
  // Writes the rows' records, [rows, record], to their pages. In `parts` equal parts: [parts][kPageTokens] in a page.
  void write_records(const float* values, int64_t parts = 1) const;
  // Reads the records of positions [first, first + count) of a chunk as F32: [count, record].
  void read_records(std::size_t chunk, int64_t first, int64_t count, float* values) const;
};

// f(row) for all rows, over the threads.
template <class F>
void each_row(ThreadPool& pool, int64_t rows, F&& f) {
  const auto some = [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) f(r);
  };
  if (rows < 4) return some(0, rows, 0);  // a fork-join costs more
  pool.split(rows, 1, some);
}

struct ExpertChoice {
  int32_t expert;
  float weight;
};

// Scratch that grows once and is used again by every layer and step.
class Scratch {
 public:
  float* get(AlignedVector<float>& buffer, int64_t floats) {
    if (int64_t(buffer.size()) < floats) buffer.resize(std::size_t(floats));
    return buffer.data();
  }
  AlignedVector<float> x, y, a, b, c, d, e, f;
  AlignedVector<std::byte> bytes;  // expanded keys and values in BF16
  std::vector<AttentionRow> attend;
  std::vector<Product> products;
  std::vector<int64_t> rows;                // of the absorbed form
  std::vector<ExpertChoice> choices;        // [rows, k]
  std::vector<int64_t> first, next, place;  // of the slots: by expert, by expert, by choice
  std::vector<int32_t> slot_rows;           // of the slots: the row that chose
};

}  // namespace sonde
