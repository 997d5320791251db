// A scale that is not finite: refused where weights are packed or rounded, also of the types that stay as they are stored;
// where these are read in place, on the exact path, no logit is a number that hides it.
#include <gtest/gtest.h>
#include <unistd.h>

#include "model/packed_weights.h"
#include "support/assets.h"
#include "support/damaged.h"
#include "support/kernel_set.h"
#include "support/runner.h"

namespace sonde::test {
namespace {

namespace fs = std::filesystem;

class Scales : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string from = find_golden(std::string("gguf/") + GetParam());
    if (from.empty()) GTEST_SKIP() << GetParam() << " is not at hand";
    std::string name = fs::temp_directory_path() / "sonde-scales-XXXXXX";
    folder_ = mkdtemp(name.data());
    path_ = folder_ / "model.gguf";
    whole_ = bytes_of(from), checkpoint_ = Checkpoint::open(from).value();
  }
  void TearDown() override {
    if (!folder_.empty()) fs::remove_all(folder_);
  }
  Result<std::unique_ptr<Model>> load(const ModelOptions& options) const {
    return Model::load(Checkpoint::open(path_.string()).value(), options);
  }
  // Calls f for the quantised weights, one of each kind and type, with a damaged copy at path_.
  template <class F>
  void each_damaged(F&& f) {
    std::vector<std::string> seen;
    for (const auto& [name, tensor] : checkpoint_->tensors()) {
      if (!tensor.type->is_quantised() || tensor.shape.size() != 2 || !place_of_scale(*tensor.type)) continue;
      std::string kind = name.substr(name.find_last_of('.', name.size() - 8) + 1) + std::string(tensor.type->name);
      if (std::find(seen.begin(), seen.end(), kind) != seen.end()) continue;
      seen.push_back(std::move(kind));
      write_damaged(whole_, tensor, path_);
      f(name);
    }
    EXPECT_GT(seen.size(), 3u);
  }

  fs::path folder_, path_;
  std::string whole_;
  std::unique_ptr<Checkpoint> checkpoint_;
};

TEST_P(Scales, AreRefusedOnTheFastPath) {
  const std::string cache = folder_ / "cache";
  each_damaged([&](const std::string& name) {
    if (name.find("embed_tokens") != std::string::npos) return;  // of which a step reads the rows it needs
    for (const std::string& kept : {std::string(), cache}) {
      const auto model = load({.exact = false, .threads = 2, .cache = kept, .cache_least = 0});
      ASSERT_FALSE(model.ok()) << name;
      EXPECT_EQ(model.error().code, Code::kCorrupt);
      EXPECT_NE(model.error().message().find("not finite"), std::string::npos) << model.error().message();
      EXPECT_NE(model.error().message().find(name), std::string::npos) << model.error().message();
    }
  });
  EXPECT_TRUE(!fs::exists(cache) || fs::is_empty(cache));
}

TEST_P(Scales, ReachTheLogitsOnTheExactPath) {
  for (const std::string_view set_name : kernel_sets()) {
    const KernelSet set{std::string(set_name)};
    each_damaged([&](const std::string& name) {
      if (name.find("embed_tokens") != std::string::npos || name.find(".experts.") != std::string::npos) return;  // may go unread
      auto model = load({});
      ASSERT_TRUE(model.ok()) << model.error().message();
      Runner runner(**model);
      const std::vector<int32_t> ids = {5, 3, 9, 17, 4, 8, 11, 2};
      const int64_t vocab = (*model)->config().vocab_size;
      for (const bool absorbed : {false, true}) {
        const auto logits = runner.feed(std::span(ids).first(absorbed ? 1 : ids.size()), absorbed).logits;
        for (int64_t row = 0; row < int64_t(logits.size()) / vocab; ++row)
          EXPECT_FALSE(all_finite(logits.data() + row * vocab, vocab)) << name << ", " << set_name << ", row " << row;
      }
    });
  }
}

INSTANTIATE_TEST_SUITE_P(All, Scales,
                         testing::Values("llama.Q5_1.gguf", "llama-wide.Q3_K_M.gguf", "v2-lite-wide-split.LOW.gguf",
                                         "v3-wide-split.TERN.gguf", "v3-wide-split.MIX.gguf"),
                         [](const auto& name) { return parameter_name(name.param); });

}  // namespace
}  // namespace sonde::test
