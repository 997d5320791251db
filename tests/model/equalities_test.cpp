// Equalities of the forward pass: the same bits however the work is cut, and the two forms of latent attention alike.
#include <gtest/gtest.h>

#include "support/assets.h"
#include "support/runner.h"

namespace sonde::test {
namespace {

class Equalities : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto checkpoint = Checkpoint::open(GetParam() == "models/mini" ? source(GetParam()) : golden(GetParam()));
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message();
    auto model = Model::load(std::shared_ptr<const Checkpoint>(std::move(checkpoint).value()));
    ASSERT_TRUE(model.ok()) << model.error().message();
    model_ = std::move(model).value();
    for (int i = 0; i < 150; ++i) ids_.push_back(int32_t((i * 7919 + 13) % model_->config().vocab_size));
  }
  AlignedVector<float> in_chunks(int64_t chunk, bool absorbed) {
    Runner runner(*model_);
    AlignedVector<float> all;
    for (std::size_t first = 0; first < ids_.size(); first += std::size_t(chunk)) {
      const auto part =
          runner.feed(std::span(ids_).subspan(first, std::min(std::size_t(chunk), ids_.size() - first)), absorbed)
              .logits;
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  }
  std::unique_ptr<Model> model_;
  std::vector<int32_t> ids_;
};

TEST_P(Equalities, ChunksOfPagesEqualOneShot) {
  const auto whole = in_chunks(int64_t(ids_.size()), false);
  for (int64_t chunk : {kPageTokens, 2 * kPageTokens, 4 * kPageTokens})
    EXPECT_EQ(in_chunks(chunk, false), whole) << chunk;
}

TEST_P(Equalities, OneFormThroughoutEqualsTokenByToken) {
  EXPECT_EQ(in_chunks(1, true), in_chunks(int64_t(ids_.size()), true));
}

TEST_P(Equalities, OneThreadEqualsTwo) {
  for (bool absorbed : {false, true}) {
    Runner one(*model_, 1), two(*model_, 2);
    EXPECT_EQ(one.feed(ids_, absorbed).logits, two.feed(ids_, absorbed).logits);
  }
}

TEST_P(Equalities, AbsorbedAndExpandedAgree) {
  // Two orders of the same F32 arithmetic: the bound is that of the exact path itself, 2e-4 of the spread.
  const auto expanded = in_chunks(int64_t(ids_.size()), false);
  EXPECT_LE(worst(in_chunks(1, true), expanded), 2e-4);
}

TEST_P(Equalities, NeighboursInTheBatchChangeNothing) {
  const KvLayout layout = model_->kv_layout();
  ThreadPool pool(2);
  std::vector<AlignedVector<std::byte>> storage;
  std::vector<std::vector<std::byte*>> pages(8);
  for (auto& list : pages)
    for (int p = 0; p < 5; ++p)
      storage.emplace_back(std::size_t(layout.page_bytes())), list.push_back(storage.back().data());
  // Eight prompts of unlike length in one pass, one of them already decoding; then each alone.
  std::vector<SequenceChunk> chunks;
  for (std::size_t s = 0; s < 8; ++s)
    chunks.push_back({std::span(ids_).subspan(s * 3, 5 + s * 17), 0, pages[s], s % 3 == 2, Logits::kAll});
  ForwardResult together;
  model_->forward(pool, chunks, together, nullptr);
  std::size_t at = 0;
  for (const SequenceChunk& chunk : chunks) {
    const auto alone = Runner(*model_).feed(chunk.tokens, chunk.absorbed).logits;
    ASSERT_TRUE(std::equal(alone.begin(), alone.end(), together.logits.begin() + std::ptrdiff_t(at)));
    at += alone.size();
  }
  EXPECT_EQ(at, together.logits.size());
}

INSTANTIATE_TEST_SUITE_P(All, Equalities,
                         testing::Values("models/mini", "models/v2-lite-f32", "models/v3-fp8-ue8m0",
                                         "models/qwen3-bf16", "gguf/v2-lite-split.Q8_0.gguf", "gguf/llama.Q5_1.gguf"));

}  // namespace
}  // namespace sonde::test
