// Made-up files in every mix of types run: their logits are numbers, and no two tokens' are alike.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "files/synth.h"
#include "support/runner.h"

namespace sonde::test {
namespace {

namespace fs = std::filesystem;

// The small shapes: between them grouped and latent attention, dense layers and experts, multi-token prediction.
class SynthRuns : public testing::TestWithParam<std::string> {};

TEST_P(SynthRuns, LogitsAreFinite) {
  for (const std::string_view type : synth_types()) {
    SCOPED_TRACE(type);
    const fs::path path = fs::temp_directory_path() / ("sonde-synth-runs-" + std::to_string(::getpid()) + ".gguf");
    const auto report = write_synthetic({GetParam(), std::string(type), path.string(), 2, 3, {}});
    ASSERT_TRUE(report.ok()) << report.error().message();
    auto opened = Checkpoint::open(path.string());
    fs::remove(path);  // what is mapped stays
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    auto loaded = Model::load(std::shared_ptr<const Checkpoint>(std::move(opened).value()));
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    Model& model = **loaded;
    Runner runner(model);
    const std::vector<int32_t> ids = {1, 5, 300, 77, 5};
    const ForwardResult out = runner.feed(ids);
    const auto vocabulary = static_cast<std::size_t>(model.config().vocab_size);
    ASSERT_EQ(out.logits.size(), ids.size() * vocabulary);
    double power = 0;
    for (const float v : out.logits) {
      ASSERT_TRUE(std::isfinite(v));
      power += double(v) * double(v);
    }
    // Rows of unit-variance products, and a norm before them: the logits' variance is about 1, less for codes of few
    // bits.
    EXPECT_NEAR(std::sqrt(power / double(out.logits.size())), 1, 0.25);
    const auto row = [&](std::size_t i) { return std::span(out.logits).subspan(i * vocabulary, vocabulary); };
    for (std::size_t i = 1; i < ids.size(); ++i) EXPECT_FALSE(std::ranges::equal(row(i), row(i - 1)));
    if (!model.has_mtp()) continue;
    const auto rows = ids.size() - 1, hidden = static_cast<std::size_t>(model.config().hidden_size);
    for (const float v : runner.drafts(std::span(ids).subspan(1), std::span(out.final).first(rows * hidden)))
      ASSERT_TRUE(std::isfinite(v));
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, SynthRuns, testing::Values("mini", "smollm2-135m"),
                         [](const auto& shape) { return shape.param == "mini" ? "Mini" : "SmolLM2"; });

TEST(SynthMini, PredictsAhead) {
  const fs::path path = fs::temp_directory_path() / ("sonde-synth-mtp-" + std::to_string(::getpid()) + ".gguf");
  ASSERT_TRUE(write_synthetic({"mini", "BF16", path.string(), {}, 3, {}}).ok());
  auto opened = Checkpoint::open(path.string());
  fs::remove(path);
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  auto loaded = Model::load(std::shared_ptr<const Checkpoint>(std::move(opened).value()));
  ASSERT_TRUE(loaded.ok()) << loaded.error().message();
  EXPECT_TRUE((*loaded)->has_mtp());
  EXPECT_EQ((*loaded)->config().num_hidden_layers, 5);
}

}  // namespace
}  // namespace sonde::test
