// The fast path against the exact one: how far rounding moves the logits, and what that costs on real text.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <tuple>

#include "support/assets.h"
#include "support/kernel_set.h"
#include "support/runner.h"
#include "support/sanitized.h"

namespace sonde::test {
namespace {

// Activations are rounded to 1/254 of the largest of 32: about 0.5 % of a
// vector's norm a product, seven products a layer; the goldens' layers add to a few per cent of the logits' spread.
// 0.3 is what the design asks for at most.
constexpr double kTolerance = 0.3;

Result<std::unique_ptr<Model>> load(const std::string& path, bool exact) {
  SONDE_TRY(auto checkpoint, Checkpoint::open(path));
  return Model::load(std::shared_ptr<const Checkpoint>(std::move(checkpoint)), {.exact = exact});
}

// The largest difference of each row over the spread of all.
std::vector<double> row_errors(std::span<const float> got, std::span<const float> want, std::size_t width) {
  std::vector<double> errors;
  for (std::size_t at = 0; at < want.size(); at += width) {
    double largest = 0;
    for (std::size_t i = at; i < at + width; ++i)
      largest = std::isfinite(got[i]) ? std::max(largest, std::abs(double(got[i]) - double(want[i]))) : INFINITY;
    errors.push_back(largest / spread(want));
  }
  return errors;
}

// An instruction set, and a checkpoint.
class Fast : public testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(Fast, LogitsStayNearTheExactOnes) {
  const auto& [isa, name] = GetParam();
  const std::string path = find_golden(name);
  if (path.empty()) GTEST_SKIP() << name << " is not in tests/golden and SONDE_ASSETS is not set";
  const KernelSet set(isa);
  SONDE_NEEDS_SET(set);
  auto exact = load(path, true), fast = load(path, false);
  ASSERT_TRUE(exact.ok() && fast.ok());
  const std::size_t vocab = std::size_t((*exact)->config().vocab_size);
  const bool experts = (*exact)->config().n_routed_experts > 0;
  auto expected = Expected::open(expected_path(name));
  ASSERT_TRUE(expected.ok());
  for (bool decode : {false, true}) {
    std::vector<double> errors;
    for (const std::string p : {"0", "1", "2"}) {
      const auto ids = expected->ints(p + ".input_ids");
      const auto want = Runner(**exact).feed(ids, decode).logits, got = Runner(**fast).feed(ids, decode).logits;
      ASSERT_EQ(got.size(), want.size());
      const auto rows = row_errors(got, want, vocab);
      errors.insert(errors.end(), rows.begin(), rows.end());
    }
    std::sort(errors.begin(), errors.end());
    // A flipped expert moves a whole row of a tiny mixture: there the median row counts.
    const double error = experts ? errors[errors.size() / 2] : errors.back();
    EXPECT_LE(error, kTolerance) << (decode ? "decode" : "prompt");
    printf("fast %-44s %-6s median row %.3f, worst row %.3f of the spread\n", name.c_str(),
           decode ? "decode" : "prompt", errors[errors.size() / 2], errors.back());
  }
}

std::string title(const testing::TestParamInfo<Fast::ParamType>& info) {
  const auto& [isa, name] = info.param;
  return parameter_name(isa.empty() ? name : isa + "_" + name);
}
// Every golden model that opens (FastCheckpoints holds the list to that). The file in three parts there is one of these.
const std::vector<std::string> kCheckpoints = {
    "models/llama-f32", "models/llama-tied-f32", "models/llama3-rope-bf16", "models/qwen2-f32",
    "models/qwen2-tied-bf16", "models/qwen3-bf16", "models/v2-bf16", "models/v2-f32", "models/v2-lite-bf16",
    "models/v2-lite-f32", "models/v3-bf16", "models/v3-f32", "models/v3-fp8", "models/v3-fp8-ue8m0",
    "gguf/llama-wide.Q3_K_M.gguf", "gguf/llama.F32.gguf", "gguf/llama.Q5_1.gguf", "gguf/qwen2-wide.Q4_K_M.gguf",
    "gguf/qwen2.F16.gguf", "gguf/qwen2.Q4_0.gguf", "gguf/qwen3-wide.Q6_K.gguf", "gguf/qwen3.BF16.gguf",
    "gguf/qwen3.Q8_0.gguf", "gguf/v2-lite-joined.F32.gguf", "gguf/v2-lite-joined.Q8_0.gguf",
    "gguf/v2-lite-split.BF16.gguf", "gguf/v2-lite-split.F16.gguf", "gguf/v2-lite-split.MXFP4.gguf",
    "gguf/v2-lite-split.Q4_0.gguf", "gguf/v2-lite-split.Q8_0.gguf", "gguf/v2-lite-wide-joined.Q4_K_M.gguf",
    "gguf/v2-lite-wide-split.IQ4_XS.gguf", "gguf/v2-lite-wide-split.LOW.gguf", "gguf/v2-lite-wide-split.Q4_K_M.gguf",
    "gguf/v2-split.F16.gguf", "gguf/v3-joined.F16.gguf", "gguf/v3-split-mtp.BF16.gguf", "gguf/v3-split.F32.gguf",
    "gguf/v3-split.Q8_0.gguf", "gguf/v3-wide-split.MIX.gguf", "gguf/v3-wide-split.Q4_K_M.gguf",
    "gguf/v3-wide-split.TERN.gguf"};
INSTANTIATE_TEST_SUITE_P(All, Fast, testing::Combine(testing::Values(""), testing::ValuesIn(kCheckpoints)), title);
INSTANTIATE_TEST_SUITE_P(Sets, Fast, testing::Combine(other_sets(), few_checkpoints()), title);

TEST(FastCheckpoints, AreAllThatOpen) {
  namespace fs = std::filesystem;
  for (const std::string& folder : {golden(""), assets() + "/golden/"}) {
    for (const std::string kind : {"models/", "gguf/"}) {
      if (!fs::exists(folder + kind)) continue;
      for (const auto& entry : fs::directory_iterator(folder + kind)) {
        const std::string file = entry.path().filename().string(), name = kind + file;
        if (kind == "models/" ? !entry.is_directory() : entry.path().extension() != ".gguf") continue;
        const bool listed = std::find(kCheckpoints.begin(), kCheckpoints.end(), name) != kCheckpoints.end();
        EXPECT_EQ(listed, load(entry.path().string(), false).ok()) << name;
      }
    }
  }
}

constexpr int64_t kWindow = 512;  // of perplexity.json

double mean_nll(Model& model, std::span<const int32_t> ids, bool decode) {
  const int64_t vocab = model.config().vocab_size;
  double nll = 0;
  int64_t counted = 0;
  for (int64_t first = 0; first + kWindow <= int64_t(ids.size()); first += kWindow) {
    const ForwardResult out = Runner(model).feed(ids.subspan(std::size_t(first), kWindow), decode);
    for (int64_t i = 0; i + 1 < kWindow; ++i, ++counted) {
      const float* row = out.logits.data() + i * vocab;
      const double top = *std::max_element(row, row + vocab);
      double sum = 0;
      for (int64_t v = 0; v < vocab; ++v) sum += std::exp(row[v] - top);
      nll += top + std::log(sum) - row[ids[std::size_t(first + i + 1)]];
    }
  }
  return nll / double(counted);
}

// SmolLM2-135M on its recorded text: within half a per cent of the exact path, in both forms.
class FastText : public testing::TestWithParam<std::string> {};

TEST_P(FastText, MeanNegativeLogLikelihoodIsNearlyTheExactOne) {
  SONDE_NEEDS_ASSETS();
  const KernelSet set(GetParam());
  SONDE_NEEDS_SET(set);
  const std::string folder = assets() + "/models/smollm2-135m-instruct";
  auto fast = load(folder + "/SmolLM2-135M-Instruct.Q4_1.gguf", false);
  ASSERT_TRUE(fast.ok());
  auto expected = Expected::open(folder + "/perplexity_ids.safetensors");
  ASSERT_TRUE(expected.ok());
  auto ids = expected->ints("input_ids");
  const auto recorded = nlohmann::json::parse(std::ifstream(folder + "/perplexity.json"))["per_window_mean_nll"];
  std::vector<double> windows = recorded.get<std::vector<double>>();
  if (kSanitized || !GetParam().empty()) windows.resize(3);  // the whole text takes other sets 15 s
  ids.resize(windows.size() * kWindow);
  const double want = std::accumulate(windows.begin(), windows.end(), 0.0) / double(windows.size());
  for (bool decode : {false, true}) {
    const double got = mean_nll(**fast, ids, decode);
    EXPECT_NEAR(got / want, 1.0, 0.005) << (decode ? "decode" : "prompt");
    printf("fast SmolLM2 %s: mean NLL %.5f, exact %.5f\n", decode ? "decode" : "prompt", got, want);
  }
}

INSTANTIATE_TEST_SUITE_P(All, FastText, testing::Values(""), [](const auto&) { return "best"; });
// A set without a form for prompts, and the one whose form is bytes under a scale for 256 columns.
INSTANTIATE_TEST_SUITE_P(Sets, FastText, testing::Values("avx2", "avx512_vnni"),
                         [](const auto& set) { return set.param; });

}  // namespace
}  // namespace sonde::test
