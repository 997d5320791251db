// What inspect and plan count from names and shapes is what a loaded model says of itself.
#include "cli/survey.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "support/assets.h"

namespace sonde {
namespace {

TEST(Survey, AgreesWithTheLoadedModel) {
  for (const char* name :
       {"models/v2-lite-f32", "models/v2-f32", "models/v3-bf16", "models/v3-fp8-ue8m0", "models/qwen2-tied-bf16",
        "models/qwen3-bf16", "models/llama3-rope-bf16", "gguf/llama.Q5_1.gguf", "gguf/qwen2.Q4_0.gguf",
        "gguf/v2-lite-joined.Q8_0.gguf", "gguf/v2-lite-split.Q8_0.gguf", "gguf/v3-split-mtp.BF16.gguf"}) {
    SCOPED_TRACE(name);
    auto opened = Checkpoint::open(test::find_golden(name));
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    const std::shared_ptr<const Checkpoint> checkpoint = std::move(*opened);
    const auto model = Model::load(checkpoint);
    ASSERT_TRUE(model.ok()) << model.error().message();
    const Survey s = survey(*checkpoint, &(*model)->config());
    EXPECT_EQ(s.parameters, (*model)->parameters());
    // Shares of an embedding row and of experts are added up in another order.
    EXPECT_NEAR(double(s.active_parameters), double((*model)->active_parameters()), 2);
    EXPECT_NEAR(double(s.work.weights), double((*model)->work_per_token().weights), 1e-3 * double(s.work.weights));
    EXPECT_NEAR(double(s.work.bytes), double((*model)->work_per_token().bytes), 0.02 * double(s.work.bytes));
    const ModelConfig& c = (*model)->config();
    const double share = c.n_routed_experts > 0 ? double(c.num_experts_per_tok) / double(c.n_routed_experts) : 0;
    const double chosen = share * double(s.expert_bytes);
    EXPECT_NEAR(chosen, double((*model)->choice_per_token().bytes), 0.02 * chosen);
    EXPECT_EQ(s.owned_bytes, (*model)->owned_bytes());
    EXPECT_EQ(s.layout.layers, (*model)->kv_layout().layers);
    EXPECT_EQ(s.layout.record, (*model)->kv_layout().record);
    EXPECT_EQ(s.mtp_parameters > 0, (*model)->has_mtp());
  }
}

}  // namespace
}  // namespace sonde
