#include "files/names.h"

#include "files/gguf.h"
#include "support.h"

namespace sonde {
namespace {

TEST(Names, BothWays) {
  const std::pair<const char*, const char*> pairs[] = {
      {"token_embd.weight", "model.embed_tokens.weight"},
      {"output.weight", "lm_head.weight"},
      {"output_norm.weight", "model.norm.weight"},
      {"rope_freqs.weight", "rope_freqs.weight"},
      {"blk.12.attn_q.bias", "model.layers.12.self_attn.q_proj.bias"},
      {"blk.0.attn_q_a_norm.weight", "model.layers.0.self_attn.q_a_layernorm.weight"},
      {"blk.3.exp_probs_b.bias", "model.layers.3.mlp.gate.e_score_correction_bias"},
      {"blk.61.nextn.shared_head_head.weight", "model.layers.61.shared_head.head.weight"},
      {"blk.61.nextn.enorm.weight", "model.layers.61.enorm.weight"}};
  for (const auto& [gguf, hf] : pairs) {
    EXPECT_EQ(hf_name(gguf), hf);
    EXPECT_EQ(gguf_name(hf), gguf);
  }
  EXPECT_EQ(hf_name("blk.3.ffn_down_exps.weight"), "model.layers.3.mlp.experts.{}.down_proj.weight");
  EXPECT_EQ(gguf_name("model.layers.3.mlp.experts.17.down_proj.weight"), "blk.3.ffn_down_exps.weight");
  EXPECT_EQ(name_numbers("model.layers.3.mlp.experts.17.down_proj.weight").expert, 17);
  EXPECT_EQ(name_numbers("model.layers.3.mlp.experts.17.down_proj.weight").layer, 3);
  EXPECT_EQ(name_numbers("model.norm.weight").layer, -1);
}

TEST(Names, UnknownOnesStayWhatTheyAre) {
  for (const char* name : {"", "blk", "blk.", "blk.x.attn_q.weight", "blk.1.attn_q", "blk.1.unheard.weight", "blk.1",
                           "rope_factors_long.weight", "blk.99999999999999999999.attn_q.weight", "blk.-1.attn_q.weight",
                           "output.scales"}) {
    EXPECT_EQ(hf_name(name), name);
  }
  for (const char* name :
       {"", "model.layers.", "model.layers.1.self_attn.q_proj.weight_scale_inv", "model.layers.x.mlp.gate.weight",
        "model.layers.1.mlp.experts.up_proj.weight", "foo.weight"}) {
    EXPECT_EQ(gguf_name(name), std::nullopt) << name;
  }
}

TEST(Names, EveryGoldenTensorGoesThereAndBack) {
  for (const std::string& file : test::goldens("gguf", ".gguf")) {
    auto opened = open_gguf(file);
    ASSERT_TRUE(opened.ok()) << test::why(opened);
    for (const auto& t : opened->tensors) {
      std::string hf = hf_name(t.name);
      if (const auto brace = hf.find("{}"); brace != std::string::npos) hf.replace(brace, 2, "5");
      EXPECT_EQ(gguf_name(hf), t.name);
    }
  }
}

}  // namespace
}  // namespace sonde
