// Trained models with known answers: the embedded default, the stories, SmolLM2.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "support/assets.h"
#include "support/runner.h"
#include "support/sanitized.h"

namespace sonde::test {
namespace {

constexpr double kTolerance = 2e-4;  // of the reference tensor's standard deviation

std::unique_ptr<Model> load(const std::string& path) {
  auto checkpoint = Checkpoint::open(path);
  EXPECT_TRUE(checkpoint.ok()) << (checkpoint.ok() ? "" : checkpoint.error().message());
  if (!checkpoint.ok()) return nullptr;
  auto model = Model::load(std::shared_ptr<const Checkpoint>(std::move(checkpoint).value()));
  EXPECT_TRUE(model.ok()) << (model.ok() ? "" : model.error().message());
  return model.ok() ? std::move(model).value() : nullptr;
}

nlohmann::json read_json(const std::string& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file, nullptr, false);
}

TEST(Mini, LogitsFinalDraftsAndGreedyAnswers) {
  const auto model = load(source("models/mini"));
  ASSERT_TRUE(model && model->has_mtp());
  auto expected = Expected::open(source("models/mini/expected.safetensors"));
  ASSERT_TRUE(expected.ok());
  for (const std::string i : {"0", "1", "2", "3"}) {
    const auto ids = expected->ints(i + ".input_ids"), prompt = expected->ints(i + ".prompt_ids"),
               greedy = expected->ints(i + ".greedy");
    Runner runner(*model);
    const ForwardResult out = runner.feed(ids);
    EXPECT_LE(worst(out.logits, expected->floats(i + ".logits")), kTolerance);
    EXPECT_LE(worst(out.final, expected->floats(i + ".final")), kTolerance);
    const auto rows = ids.size() - 1;
    const auto drafts = runner.drafts(std::span(ids).subspan(1),
                                      std::span(out.final).first(rows * std::size_t(model->config().hidden_size)));
    EXPECT_LE(worst(drafts, expected->floats(i + ".mtp_logits")), kTolerance);
    EXPECT_EQ(Runner(*model).greedy(prompt, int(greedy.size())), greedy);
  }
}

class Stories : public testing::TestWithParam<std::string> {};

TEST_P(Stories, GreedyIdsAreThoseOfThreeOtherEngines) {
  SONDE_NEEDS_ASSETS();
  const std::string folder = assets() + "/models/" + GetParam();
  const auto stories = read_json(folder + "/greedy.json");
  ASSERT_EQ(stories["stories"].size(), 4u);
  for (const std::string& file : {std::string("/hf"), "/" + GetParam() + ".F32.gguf"}) {
    const auto model = load(folder + file);
    ASSERT_TRUE(model);
    for (const auto& story : stories["stories"]) {
      const auto prompt = story["prompt_ids"].get<std::vector<int32_t>>(),
                 ids = story["ids"].get<std::vector<int32_t>>();
      EXPECT_EQ(Runner(*model).greedy(prompt, int(ids.size())), ids) << file << ": " << story["prompt"];
    }
  }
}

TEST_P(Stories, GgufGivesTheBitsOfSafetensors) {
  SONDE_NEEDS_ASSETS();
  const std::string folder = assets() + "/models/" + GetParam();
  const auto hf = load(folder + "/hf"), gguf = load(folder + "/" + GetParam() + ".F32.gguf");
  ASSERT_TRUE(hf && gguf);
  const auto stories = read_json(folder + "/greedy.json");
  auto ids = stories["stories"][0]["prompt_ids"].get<std::vector<int32_t>>();
  for (int32_t id : stories["stories"][0]["ids"]) ids.push_back(id);
  ids.resize(std::min<std::size_t>(ids.size(), 200));
  EXPECT_EQ(Runner(*hf).feed(ids).logits, Runner(*gguf).feed(ids).logits);
}
INSTANTIATE_TEST_SUITE_P(All, Stories, testing::Values("stories260K", "babyllama105"));

class SmolLM2 : public testing::Test {
 protected:
  void SetUp() override {
    SONDE_NEEDS_ASSETS();
    folder_ = assets() + "/models/smollm2-135m-instruct";
    model_ = load(folder_ + "/SmolLM2-135M-Instruct.Q4_1.gguf");
    ASSERT_TRUE(model_);
  }
  std::string folder_;
  std::unique_ptr<Model> model_;
};

TEST_F(SmolLM2, LogitsHiddenStatesAndGreedyIds) {
  auto opened = Expected::open(folder_ + "/expected.safetensors");
  ASSERT_TRUE(opened.ok());
  const Expected& expected = *opened;
  const auto about = read_json(folder_ + "/expected.json");
  const std::size_t hidden = std::size_t(model_->config().hidden_size),
                    vocab = std::size_t(model_->config().vocab_size);
  for (std::size_t p = 0; p < about["prompts"].size(); ++p) {
    const std::string at = std::to_string(p) + ".";
    const auto ids = expected.ints(at + "input_ids");
    Runner runner(*model_);
    Probe probe;
    const ForwardResult out = runner.feed(ids, false, &probe);
    EXPECT_LE(worst(std::span(out.logits).last(vocab), expected.floats(at + "last_logits")), kTolerance) << p;
    EXPECT_LE(worst(std::span(out.final).last(hidden), expected.floats(at + "last_final")), kTolerance) << p;
    const auto last_hidden = expected.floats(at + "last_hidden");
    ASSERT_EQ(last_hidden.size(), probe.hidden.size() * hidden);
    for (std::size_t layer = 0; layer < probe.hidden.size(); ++layer)
      EXPECT_LE(
          worst(std::span(probe.hidden[layer]).last(hidden), std::span(last_hidden).subspan(layer * hidden, hidden)),
          kTolerance)
          << layer;
    auto greedy = expected.ints(at + "greedy");
    greedy.resize(about["prompts"][p]["healthy_greedy_tokens"].get<std::size_t>());
    EXPECT_EQ(Runner(*model_).greedy(ids, int(greedy.size())), greedy) << p;
  }
}

// Of each window of twenty kilobytes, and of all; where sanitizers watch, of three.
TEST_F(SmolLM2, MeanNegativeLogLikelihood) {
  const auto about = read_json(folder_ + "/perplexity.json");
  auto expected = Expected::open(folder_ + "/perplexity_ids.safetensors");
  ASSERT_TRUE(expected.ok());
  const auto ids = expected->ints("input_ids");
  const int64_t window = 512, vocab = model_->config().vocab_size;
  const auto windows = about["per_window_mean_nll"].get<std::vector<double>>();
  const int64_t count = kSanitized ? 3 : int64_t(ids.size()) / window;
  ASSERT_GE(int64_t(windows.size()), count);
  double all = 0;
  for (int64_t w = 0; w < count; ++w) {
    const int64_t first = w * window;
    double nll = 0;
    const ForwardResult out = Runner(*model_).feed(std::span(ids).subspan(std::size_t(first), std::size_t(window)));
    for (int64_t i = 0; i + 1 < window; ++i) {
      const float* row = out.logits.data() + i * vocab;
      const double top = *std::max_element(row, row + vocab);
      double sum = 0;
      for (int64_t v = 0; v < vocab; ++v) sum += std::exp(row[v] - top);
      nll += top + std::log(sum) - row[ids[std::size_t(first + i + 1)]];
    }
    nll /= double(window - 1), all += nll;
    EXPECT_NEAR(nll / windows[std::size_t(w)], 1.0, 1e-4) << w;
  }
  if (kSanitized) return;
  const double want = about["all_positions"]["mean_nll"];
  EXPECT_NEAR(all / double(count) / want, 1.0, 1e-4);
}

}  // namespace
}  // namespace sonde::test
