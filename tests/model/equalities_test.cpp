// Equalities of the forward pass: the same bits however the work is cut, and the two forms of latent attention alike.
#include <gtest/gtest.h>

#include <cctype>
#include <tuple>

#include "support/assets.h"
#include "support/runner.h"

namespace sonde::test {
namespace {

// A checkpoint, and whether to compute exactly.
class Equalities : public testing::TestWithParam<std::tuple<std::string, bool>> {
 protected:
  static std::unique_ptr<Model> load(bool exact) {
    auto checkpoint = Checkpoint::open(path());
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.error().message();
    if (!checkpoint.ok()) return nullptr;
    auto model = Model::load(std::shared_ptr<const Checkpoint>(std::move(checkpoint).value()), {.exact = exact});
    EXPECT_TRUE(model.ok()) << model.error().message();
    return model.ok() ? std::move(model).value() : nullptr;
  }
  static bool exact() { return std::get<1>(GetParam()); }
  static std::string path() {
    const std::string& name = std::get<0>(GetParam());
    return name == "models/mini" ? source(name) : find_golden(name);
  }
  void SetUp() override {
    if (path().empty()) GTEST_SKIP() << std::get<0>(GetParam()) << " is not in tests/golden and SONDE_ASSETS is not set";
    model_ = load(exact());
    ASSERT_NE(model_, nullptr);
    for (int i = 0; i < 300; ++i)  // more than a segment of the fast path's attention
      ids_.push_back(int32_t((i * 7919 + 13) % model_->config().vocab_size));
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
  // The median over rows of the largest difference in a row, over the reference's spread: where experts are tiny, one
  // that flips moves a whole row.
  double usual(std::span<const float> got, std::span<const float> want) const {
    const auto vocab = std::size_t(model_->config().vocab_size);
    std::vector<double> rows;
    for (std::size_t at = 0; at < want.size(); at += vocab) {
      double most = 0;
      for (std::size_t i = at; i < at + vocab; ++i) {
        if (!std::isfinite(got[i])) return INFINITY;
        most = std::max(most, std::abs(double(got[i]) - double(want[i])));
      }
      rows.push_back(most);
    }
    std::nth_element(rows.begin(), rows.begin() + std::ptrdiff_t(rows.size() / 2), rows.end());
    return rows[rows.size() / 2] / spread(want);
  }
  static constexpr double kFastBound = 0.3;  // what the fast path may cost

  std::unique_ptr<Model> model_;
  std::vector<int32_t> ids_;
};

TEST_P(Equalities, ChunksOfPagesEqualOneShot) {
  const auto whole = in_chunks(int64_t(ids_.size()), false);
  for (int64_t chunk : {kPageTokens, 3 * kPageTokens, 8 * kPageTokens})
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
  // Two orders of the same F32 arithmetic: the bound is that of the exact path itself, 2e-4 of the spread. The fast path
  // rounds other values in either form.
  const auto expanded = in_chunks(int64_t(ids_.size()), false), absorbed = in_chunks(1, true);
  EXPECT_LE(exact() ? worst(absorbed, expanded) : usual(absorbed, expanded), exact() ? 2e-4 : kFastBound);
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

std::string title(const testing::TestParamInfo<std::tuple<std::string, bool>>& info) {
  std::string name = std::get<0>(info.param) + (std::get<1>(info.param) ? "_exact" : "_fast");
  std::replace_if(name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
}
const auto kCheckpoints = testing::Values("models/mini", "models/v2-lite-f32", "models/v3-fp8-ue8m0",
                                          "models/qwen3-bf16", "gguf/v2-lite-split.Q8_0.gguf", "gguf/llama.Q5_1.gguf",
                                          "gguf/v2-lite-wide-joined.Q4_K_M.gguf");
INSTANTIATE_TEST_SUITE_P(All, Equalities, testing::Combine(kCheckpoints, testing::Bool()), title);

}  // namespace
}  // namespace sonde::test
