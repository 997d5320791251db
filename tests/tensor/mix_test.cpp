#include "tensor/quant/mix.h"

#include <gtest/gtest.h>

#include <string>

namespace sonde {
namespace {

std::string_view type_of(std::string_view mix, std::string_view name, int64_t cols, int64_t layers, bool tied = false) {
  return type_in_mix(*mix_by_name(mix), {name, 2, cols, layers, tied}).name;
}

// As found in files that llama-quantize wrote (golden/gguf, two layers of width 256, 64 columns in k_b).
TEST(Mix, FilesOfLlamaQuantize) {
  EXPECT_EQ(type_of("Q4_K_M", "output.weight", 256, 2), "Q6_K");
  EXPECT_EQ(type_of("Q4_K_M", "token_embd.weight", 256, 2), "Q4_K");
  EXPECT_EQ(type_of("Q4_K_M", "blk.0.attn_k_b.weight", 64, 2), "Q5_0");
  EXPECT_EQ(type_of("Q4_K_M", "blk.1.attn_v_b.weight", 256, 2), "Q4_K");
  EXPECT_EQ(type_of("Q4_K_M", "blk.0.attn_kv_b.weight", 256, 2), "Q4_K");
  EXPECT_EQ(type_of("Q4_K_M", "blk.1.attn_kv_b.weight", 256, 2), "Q6_K");
  EXPECT_EQ(type_of("Q4_K_M", "blk.0.attn_v.weight", 256, 2), "Q4_K");
  EXPECT_EQ(type_of("Q4_K_M", "blk.1.attn_v.weight", 256, 2), "Q6_K");
  EXPECT_EQ(type_of("Q4_K_M", "blk.1.attn_k.weight", 256, 2), "Q4_K");
  EXPECT_EQ(type_of("Q4_K_M", "blk.0.ffn_down.weight", 512, 2), "Q4_K");
  EXPECT_EQ(type_of("Q4_K_M", "blk.1.ffn_down_exps.weight", 256, 2), "Q6_K");
  EXPECT_EQ(type_of("Q4_K_M", "blk.1.ffn_down_shexp.weight", 256, 2), "Q6_K");
  EXPECT_EQ(type_of("Q4_K_M", "blk.1.ffn_gate_inp.weight", 256, 2), "F32");
  EXPECT_EQ(type_of("Q4_0", "output.weight", 64, 3), "Q8_0");  // wanted Q6_K, whose blocks do not fit
  EXPECT_EQ(type_of("Q4_0", "token_embd.weight", 64, 3), "Q4_0");
  EXPECT_EQ(type_of("Q4_0", "blk.2.ffn_down.weight", 160, 3), "Q4_0");
}

// DeepSeek-V2-Lite (27 layers): experts 1408 wide. A better type in layers 0-2, 23-26 and 5, 8, 11 ... 20.
TEST(Mix, WhereBlocksDoNotFit) {
  for (int64_t layer = 0; layer < 27; ++layer) {
    const bool more = layer < 3 || layer >= 23 || (layer >= 5 && (layer - 5) % 3 == 0);
    const std::string name = "blk." + std::to_string(layer) + ".ffn_down_exps.weight";
    EXPECT_EQ(type_of("Q4_K_M", name, 1408, 27), more ? "Q8_0" : "Q5_0") << layer;
    EXPECT_EQ(type_of("Q4_K_M", name, 2816, 27), more ? "Q6_K" : "Q4_K") << layer;
  }
  EXPECT_EQ(type_of("Q4_K_M", "token_embd.weight", 576, 30, true), "Q8_0");
  EXPECT_EQ(type_of("Q4_K_M", "token_embd.weight", 2048, 30, true), "Q6_K");
}

// In a model of `experts` experts whose query heads share keys by `shared`.
std::string_view type_in(std::string_view mix, std::string_view name, int64_t cols, int64_t experts, int64_t shared,
                         int64_t dims = 2) {
  return type_in_mix(*mix_by_name(mix), {name, dims, cols, 30, false, experts, shared}).name;
}

TEST(Mix, TwoBits) {
  EXPECT_EQ(type_in("Q2_K", "output.weight", 2048, 64, 16), "Q6_K");
  EXPECT_EQ(type_in("Q2_K", "token_embd.weight", 2048, 64, 16), "Q2_K");
  for (const char* part : {"attn_q", "attn_k", "attn_q_a", "attn_kv_a_mqa", "attn_v_b", "ffn_gate", "ffn_up_exps"})
    EXPECT_EQ(type_in("Q2_K", "blk.9." + std::string(part) + ".weight", 2048, 64, 16), "Q2_K") << part;
  for (const char* part : {"attn_output", "ffn_down", "ffn_down_exps", "ffn_down_shexp"})
    EXPECT_EQ(type_in("Q2_K", "blk.9." + std::string(part) + ".weight", 2048, 64, 16), "Q3_K") << part;
  EXPECT_EQ(type_in("Q2_K", "blk.9.attn_v.weight", 2048, 0, 3), "Q3_K");
  EXPECT_EQ(type_in("Q2_K", "blk.9.attn_v.weight", 2048, 0, 4), "Q4_K");
  EXPECT_EQ(type_in("Q2_K", "blk.9.attn_kv_b.weight", 512, 64, 16), "Q4_K");
  // Rows that blocks of 256 do not fit.
  EXPECT_EQ(type_in("Q2_K", "output.weight", 576, 0, 3), "Q8_0");
  EXPECT_EQ(type_in("Q2_K", "blk.9.attn_k_b.weight", 128, 64, 16), "Q4_0");
  EXPECT_EQ(type_in("Q2_K", "blk.9.ffn_down_exps.weight", 1408, 64, 16), "Q4_0");
  EXPECT_EQ(type_in("Q2_K", "blk.9.attn_k_b.weight", 48, 64, 16), "F16");
}

TEST(Mix, EightExperts) {
  EXPECT_EQ(type_in("Q2_K", "blk.9.attn_output.weight", 4096, 8, 4), "Q5_K");
  EXPECT_EQ(type_in("Q4_K_M", "blk.9.attn_output.weight", 4096, 8, 4), "Q5_K");
  EXPECT_EQ(type_in("Q4_K_M", "blk.9.attn_output.weight", 192, 8, 4), "Q5_1");
  EXPECT_EQ(type_in("Q6_K", "blk.9.attn_output.weight", 4096, 8, 4), "Q6_K");
  for (const char* mix : {"Q2_K", "Q4_K_M", "Q6_K"}) {
    EXPECT_EQ(type_in(mix, "blk.9.attn_v.weight", 4096, 8, 4), "Q8_0");
    EXPECT_EQ(type_in(mix, "blk.9.attn_k.weight", 4096, 8, 4), "Q8_0");
  }
}

// Matrices that come in stacks: experts, and what stands for each head (golden/gguf/v2-lite-split.MXFP4.gguf).
TEST(Mix, Mxfp4) {
  for (const char* part : {"ffn_gate_exps", "ffn_up_exps", "ffn_down_exps", "attn_k_b", "attn_v_b"})
    EXPECT_EQ(type_in("MXFP4", "blk.1." + std::string(part) + ".weight", 1408, 64, 16, 3), "MXFP4") << part;
  for (const char* part : {"ffn_gate", "ffn_down_shexp", "attn_q", "attn_output", "attn_kv_a_mqa"})
    EXPECT_EQ(type_in("MXFP4", "blk.1." + std::string(part) + ".weight", 2048, 64, 16), "Q8_0") << part;
  EXPECT_EQ(type_in("MXFP4", "output.weight", 2048, 64, 16), "Q8_0");
  EXPECT_EQ(type_in("MXFP4", "token_embd.weight", 2048, 64, 16), "Q8_0");
  EXPECT_EQ(type_in("MXFP4", "blk.1.ffn_gate_inp.weight", 2048, 64, 16), "F32");
}

TEST(Mix, SixBits) {
  for (const char* name : {"output.weight", "token_embd.weight", "blk.3.attn_v.weight", "blk.3.ffn_down_exps.weight"})
    EXPECT_EQ(type_in("Q6_K", name, 2048, 64, 16), "Q6_K") << name;
  EXPECT_EQ(type_in("Q6_K", "blk.3.ffn_down_exps.weight", 1408, 64, 16), "Q8_0");
}

TEST(Mix, OneTypeAlone) {
  for (const char* mix : {"F16", "BF16", "Q8_0"}) {
    EXPECT_EQ(type_of(mix, "output.weight", 2048, 4), mix);
    EXPECT_EQ(type_of(mix, "blk.3.attn_v.weight", 2048, 4), mix);
    EXPECT_EQ(type_of(mix, "blk.3.ffn_gate_inp.weight", 2048, 4), "F32");
    EXPECT_EQ(type_in_mix(*mix_by_name(mix), {"output_norm.weight", 1, 2048, 4, false}).name, "F32");
    EXPECT_EQ(type_in_mix(*mix_by_name(mix), {"blk.0.attn_q.bias", 1, 2048, 4, false}).name, "F32");
  }
  EXPECT_EQ(mix_by_name("Q4_K"), nullptr);
}

}  // namespace
}  // namespace sonde
