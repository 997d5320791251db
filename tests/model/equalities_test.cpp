// Equalities of the forward pass: the same bits however the work is cut, and the two forms of latent attention alike.
#include <gtest/gtest.h>

#include <set>
#include <tuple>

#include "support/assets.h"
#include "support/kernel_set.h"
#include "support/runner.h"

namespace sonde::test {
namespace {

std::string path_of(const std::string& name) { return name == "models/mini" ? source(name) : find_golden(name); }

std::unique_ptr<Model> load(const std::string& path, bool exact) {
  auto checkpoint = Checkpoint::open(path);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.error().message();
  if (!checkpoint.ok()) return nullptr;
  auto model = Model::load(std::shared_ptr<const Checkpoint>(std::move(checkpoint).value()), {.exact = exact});
  EXPECT_TRUE(model.ok()) << model.error().message();
  return model.ok() ? std::move(model).value() : nullptr;
}

std::vector<int32_t> some_ids(const Model& model, int count) {
  std::vector<int32_t> ids;
  for (int i = 0; i < count; ++i) ids.push_back(int32_t((i * 7919 + 13) % model.config().vocab_size));
  return ids;
}

// An instruction set, a checkpoint, and whether to compute exactly.
class Equalities : public testing::TestWithParam<std::tuple<std::string, std::string, bool>> {
 protected:
  static bool exact() { return std::get<2>(GetParam()); }
  void SetUp() override {
    SONDE_NEEDS_SET(set_);
    const std::string &name = std::get<1>(GetParam()), path = path_of(name);
    if (path.empty()) GTEST_SKIP() << name << " is not in tests/golden and SONDE_ASSETS is not set";
    model_ = load(path, exact());
    ASSERT_NE(model_, nullptr);
    ids_ = some_ids(*model_, 300);  // more than a segment of the fast path's attention
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

  const KernelSet set_{std::get<0>(GetParam())};
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

TEST_P(Equalities, PromptsAndAnswersDifferWhereTheModelSaysSo) {
  const auto length = int64_t(ids_.size());
  EXPECT_EQ(in_chunks(length, false) != in_chunks(length, true), model_->has_two_forms());
}

TEST_P(Equalities, OneThreadEqualsTwo) {
  for (bool absorbed : {false, true}) {
    Runner one(*model_, 1), two(*model_, 2);
    EXPECT_EQ(one.feed(ids_, absorbed).logits, two.feed(ids_, absorbed).logits);
  }
}

TEST_P(Equalities, AbsorbedAndExpandedAgree) {
  // Two orders of the same F32 arithmetic: the bound is that of the exact path itself, 2e-4 of the spread. The fast
  // path rounds other values in either form.
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
  // Eight sequences in one pass, a third of them already decoding, with many rows or with one each, so that some experts
  // have rows of both kinds and some of prompts alone; then each alone.
  for (const bool many : {true, false}) {
    std::vector<SequenceChunk> chunks;
    for (std::size_t s = 0; s < 8; ++s) {
      const bool decodes = s % 3 == 2;
      const std::size_t rows = many || !decodes ? 5 + s * 17 : 1;
      chunks.push_back({std::span(ids_).subspan(s * 3, rows), 0, pages[s], decodes, Logits::kAll});
    }
    ForwardResult together;
    model_->forward(pool, chunks, together, nullptr);
    std::size_t at = 0;
    for (const SequenceChunk& chunk : chunks) {
      const auto alone = Runner(*model_).feed(chunk.tokens, chunk.absorbed).logits;
      ASSERT_TRUE(std::equal(alone.begin(), alone.end(), together.logits.begin() + std::ptrdiff_t(at))) << at;
      at += alone.size();
    }
    EXPECT_EQ(at, together.logits.size());
  }
}

// Experts of a step: each counts once in a layer, whichever rows chose it.
TEST_P(Equalities, ExpertsThatAreReadAreCounted) {
  Runner runner(*model_);
  const int64_t of_one = model_->choice_per_token().experts;
  EXPECT_EQ(of_one > 0, model_->config().n_routed_experts > 0);
  for (std::size_t at = 0; const std::size_t rows : {1, 3, 1, 40}) {
    Probe probe;
    const ForwardResult out = runner.feed(std::span(ids_).subspan(at, rows), false, &probe);
    int64_t distinct = 0;
    for (const auto& chosen : probe.experts)
      distinct += int64_t(std::set<int32_t>(chosen.begin(), chosen.end()).size());
    EXPECT_EQ(out.experts, distinct);
    if (rows == 1) { EXPECT_EQ(out.experts, of_one); }
    at += rows;
  }
}

std::string title(const testing::TestParamInfo<Equalities::ParamType>& info) {
  const auto& [isa, name, exact] = info.param;
  return parameter_name((isa.empty() ? name : isa + "_" + name) + (exact ? "_exact" : "_fast"));
}
const auto kCheckpoints = testing::Values("models/mini", "models/v2-lite-f32", "models/v3-fp8-ue8m0",
                                          "models/qwen3-bf16", "gguf/qwen2.F16.gguf", "gguf/v2-lite-split.Q8_0.gguf", "gguf/llama.Q5_1.gguf",
                                          "gguf/v2-lite-wide-joined.Q4_K_M.gguf");
INSTANTIATE_TEST_SUITE_P(All, Equalities, testing::Combine(testing::Values(""), kCheckpoints, testing::Bool()), title);
INSTANTIATE_TEST_SUITE_P(Sets, Equalities, testing::Combine(other_sets(), few_checkpoints(), testing::Values(false)),
                         title);

// The exact path is the same bits in every set that this processor has, in both forms of attention.
class ExactEqualities : public testing::TestWithParam<std::string> {};

TEST_P(ExactEqualities, EverySetGivesTheSameBits) {
  const std::string path = path_of(GetParam());
  if (path.empty()) GTEST_SKIP() << GetParam() << " is not in tests/golden and SONDE_ASSETS is not set";
  std::vector<AlignedVector<float>> first;
  for (const std::string_view name : kernel_sets()) {
    const KernelSet set{std::string(name)};
    ASSERT_EQ(kernel_set(), name);
    const auto model = load(path, true);
    ASSERT_NE(model, nullptr);
    const std::vector<int32_t> ids = some_ids(*model, 70);  // more than a block of keys
    std::vector<AlignedVector<float>> logits;
    for (const bool absorbed : {false, true}) logits.push_back(Runner(*model).feed(ids, absorbed).logits);
    if (first.empty()) first = logits;
    EXPECT_TRUE(logits == first) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, ExactEqualities, few_checkpoints(),
                         [](const auto& name) { return parameter_name(name.param); });

}  // namespace
}  // namespace sonde::test
