#include "files/synth.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "files/checkpoint.h"
#include "files/gguf.h"
#include "files/synth_shapes.h"

namespace sonde {
namespace {

namespace fs = std::filesystem;

class Synth : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("sonde-synth-" + std::to_string(::getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string write(const std::string& shape, const std::string& type, int64_t layers, uint64_t seed = 1) {
    const std::string path = (folder_ / (shape + "." + type + ".gguf")).string();
    SynthOptions options{shape, type, path, layers, seed, {}};
    const auto report = write_synthetic(options);
    EXPECT_TRUE(report.ok()) << report.error().message();
    return path;
  }
  static std::string bytes_of(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  fs::path folder_;
};

std::string_view type_in(const Checkpoint& checkpoint, std::string_view name) {
  const Tensor* tensor = checkpoint.find(name);
  return tensor ? tensor->type->name : "missing";
}

// Values of a matrix have the wanted spread, none is out of bounds, and no two rows are alike.
void check_matrix(const Checkpoint& checkpoint, const std::string& name, double deviation) {
  SCOPED_TRACE(name);
  const Tensor* tensor = checkpoint.find(name);
  ASSERT_NE(tensor, nullptr);
  std::vector<float> values(static_cast<std::size_t>(tensor->count()));
  tensor->type->unpack(tensor->bytes.data(), tensor->count() / tensor->type->block, values.data());
  double sum = 0, power = 0, largest = 0;
  for (float v : values) sum += v, power += double(v) * v, largest = std::max(largest, std::fabs(double(v)));
  const double n = double(values.size());
  // Chunks come from a pool of 2048 * 64 numbers or more, whose own mean and variance scatter by 1/sqrt of that.
  const double spread = 6 / std::sqrt(2048.0 * 64);
  EXPECT_LT(std::fabs(sum / n), spread * deviation);
  // What codes of so few bits lose of a normal distribution's power at best (Max 1960), and a bit more.
  const std::string_view type = tensor->type->name;
  const double lost = type == "Q2_K" ? 0.1175 : type == "Q3_K" ? 0.0345 : 0.0095;
  EXPECT_NEAR(power / n / (deviation * deviation), 1, 2 * spread + lost + 0.01);
  EXPECT_LT(largest, 7 * deviation);
  std::set<std::string_view> rows;
  const auto row = static_cast<std::size_t>(tensor->type->row_bytes(tensor->shape.back()));
  for (std::size_t at = 0; at < tensor->bytes.size(); at += row) {
    rows.insert({reinterpret_cast<const char*>(tensor->bytes.data()) + at, row});
  }
  EXPECT_EQ(rows.size() * row, tensor->bytes.size());
}

TEST_F(Synth, SmolInEveryType) {
  for (const std::string_view type : synth_types()) {
    SCOPED_TRACE(type);
    const std::string path = write("smollm2-135m", std::string(type), 1);
    const auto opened = Checkpoint::open(path);
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    const Checkpoint& c = **opened;
    EXPECT_EQ(c.config().at("model_type"), "llama");
    EXPECT_EQ(c.config().at("num_hidden_layers"), 1);
    EXPECT_EQ(c.config().at("hidden_size"), 576);
    EXPECT_EQ(c.config().at("head_dim"), 64);
    EXPECT_EQ(c.config().at("vocab_size"), 49152);
    EXPECT_EQ(c.config().at("tie_word_embeddings"), true);
    EXPECT_EQ(c.config().at("file_type"), type);
    EXPECT_EQ(c.tensors().size(), 11u);
    const auto norm = c.vector("model.norm.weight", 576);
    ASSERT_TRUE(norm.ok());
    EXPECT_EQ(*norm, std::vector<float>(576, 1.0f));
    for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "mlp.down_proj"}) {
      const double inputs = name[0] == 'm' ? 1536 : 576;
      check_matrix(c, std::string("model.layers.0.") + name + ".weight", 1 / std::sqrt(inputs));
    }
    check_matrix(c, "model.embed_tokens.weight", 1 / std::sqrt(576.0));
    if (type == "Q4_K_M") {
      EXPECT_EQ(type_in(c, "model.embed_tokens.weight"), "Q8_0");
      EXPECT_EQ(type_in(c, "model.layers.0.self_attn.q_proj.weight"), "Q5_0");
      EXPECT_EQ(type_in(c, "model.layers.0.mlp.down_proj.weight"), "Q6_K");  // the only layer is in the last eighth
    }
    if (type == "Q2_K") {
      EXPECT_EQ(type_in(c, "model.layers.0.self_attn.q_proj.weight"), "Q4_0");
      EXPECT_EQ(type_in(c, "model.layers.0.mlp.down_proj.weight"), "Q3_K");
    }
    if (type == "MXFP4") {
      EXPECT_EQ(type_in(c, "model.layers.0.mlp.down_proj.weight"), "Q8_0");  // no experts here
    }
    const auto& vocabulary = c.tokenizer().gguf;
    ASSERT_TRUE(vocabulary.has_value());
    EXPECT_EQ(vocabulary->pre, "smollm");
    ASSERT_EQ(vocabulary->tokens.size(), 49152u);
    EXPECT_EQ(std::set<std::string_view>(vocabulary->tokens.begin(), vocabulary->tokens.end()).size(), 49152u);
    EXPECT_EQ(vocabulary->merges.size(), 49152u - 17 - 256);
    EXPECT_EQ(vocabulary->tokens[2], "<|im_end|>");
    EXPECT_EQ(c.end_tokens(), std::vector<int32_t>{2});
    EXPECT_NE(c.chat_template().find("<|im_start|>"), std::string::npos);
    fs::remove(path);
  }
}

TEST_F(Synth, V2LiteOpens) {
  const std::string path = write("v2-lite", "Q4_K_M", 1);
  const auto opened = Checkpoint::open(path);
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  const Checkpoint& c = **opened;
  EXPECT_EQ(c.config().at("model_type"), "deepseek_v2");
  EXPECT_TRUE(c.config().at("q_lora_rank").is_null());
  EXPECT_EQ(c.config().at("qk_nope_head_dim"), 128);
  EXPECT_EQ(c.config().at("n_routed_experts"), 64);
  EXPECT_NEAR(c.config().at("rope_scaling").at("mscale").get<double>(), 0.707, 1e-9);
  EXPECT_EQ(type_in(c, "lm_head.weight"), "Q6_K");
  EXPECT_EQ(type_in(c, "model.embed_tokens.weight"), "Q4_K");
  EXPECT_EQ(type_in(c, "model.layers.0.self_attn.k_b_proj.weight"), "Q5_0");
  EXPECT_EQ(type_in(c, "model.layers.0.self_attn.v_b_proj.weight"), "Q4_K");
  EXPECT_EQ(type_in(c, "model.layers.0.mlp.down_proj.weight"), "Q8_0");  // 10944 columns
  check_matrix(c, "model.layers.0.self_attn.k_b_proj.weight", 1 / std::sqrt(512.0));
  ASSERT_TRUE(c.tokenizer().gguf.has_value());
  EXPECT_EQ(c.tokenizer().gguf->tokens[100001], "<｜end▁of▁sentence｜>");
}

// The embedded default's shape, small enough to be written whole in every type.
TEST_F(Synth, MiniIsTheEmbeddedDefaultsShape) {
  const std::filesystem::path model = fs::path(SONDE_SOURCE_DIR) / "models" / "mini";
  const auto real = Checkpoint::open(model.string());
  ASSERT_TRUE(real.ok()) << real.error().message();
  for (const std::string_view type : synth_types()) {
    SCOPED_TRACE(type);
    const auto opened = Checkpoint::open(write("mini", std::string(type), 5));
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    const Checkpoint& c = **opened;
    for (const auto& [key, value] : c.config().items()) {
      if (key == "file_type" || !(*real)->config().contains(key)) continue;
      EXPECT_EQ(value, (*real)->config().at(key)) << key;
    }
    EXPECT_EQ(c.config().at("num_nextn_predict_layers"), 1);
    for (const auto& [name, tensor] : (*real)->tensors()) {
      if (name.find("kv_b_proj") != std::string::npos) continue;  // in two, one for each head
      const Tensor* made = c.find(name);
      ASSERT_NE(made, nullptr) << name;
      EXPECT_EQ(made->shape, tensor.shape) << name;
    }
    for (const char* name : {"embed_tokens", "layers.0.self_attn.k_b_proj", "layers.0.self_attn.v_b_proj",
                             "layers.1.mlp.experts.3.down_proj", "layers.5.eh_proj"}) {
      const std::string full = "model." + std::string(name) + ".weight";
      const double inputs = full.find("k_b") != std::string::npos ? 64 : double(c.find(full)->shape.back());
      check_matrix(c, full, 1 / std::sqrt(inputs));
    }
  }
}

// The largest shapes are a gigabyte and more for one layer: their tensors and types, without writing them.
TEST(SynthShapes, TypesOfV2) {
  for (const SynthShape& shape : all_synth_shapes()) {
    if (shape.name != "v2") continue;
    std::map<std::string, std::vector<int64_t>> shapes;
    for (const SynthTensor& t : synth_tensors(shape, 2)) shapes[t.name] = t.shape;
    const std::map<std::string, std::vector<int64_t>> expected = {{"token_embd.weight", {102400, 5120}},
                                                                  {"blk.0.attn_q_a.weight", {1536, 5120}},
                                                                  {"blk.0.attn_q_b.weight", {128 * 192, 1536}},
                                                                  {"blk.0.attn_kv_a_mqa.weight", {576, 5120}},
                                                                  {"blk.0.attn_k_b.weight", {128, 512, 128}},
                                                                  {"blk.0.attn_v_b.weight", {128, 128, 512}},
                                                                  {"blk.0.attn_output.weight", {5120, 16384}},
                                                                  {"blk.0.ffn_up.weight", {12288, 5120}},
                                                                  {"blk.1.ffn_gate_inp.weight", {160, 5120}},
                                                                  {"blk.1.ffn_gate_exps.weight", {160, 1536, 5120}},
                                                                  {"blk.1.ffn_down_exps.weight", {160, 5120, 1536}},
                                                                  {"blk.1.ffn_down_shexp.weight", {5120, 3072}}};
    for (const auto& [name, dims] : expected) EXPECT_EQ(shapes[name], dims) << name;
    EXPECT_EQ(shapes.count("blk.1.exp_probs_b.bias"), 0u);
    EXPECT_EQ(shapes.count("blk.2.attn_norm.weight"), 0u);
  }
}

// Sizes of whole files come out as published, without writing them.
TEST(SynthShapes, ParametersAsPublished) {
  const std::pair<std::string_view, double> published[] = {{"v2-lite", 15.706e9},
                                                           {"v2", 235.741e9},
                                                           {"v3", 684.490e9},  // 671.026e9 before the MTP layer
                                                           {"r1-distill-qwen-1.5b", 1.777e9},
                                                           {"r1-distill-qwen-7b", 7.6156e9},
                                                           {"r1-distill-llama-8b", 8.030e9},
                                                           {"smollm2-135m", 134.515e6},
                                                           {"mini", 5.2216e6}};
  for (const auto& [name, count] : published) {
    for (const SynthShape& shape : all_synth_shapes()) {
      if (shape.name != name) continue;
      double parameters = 0;
      for (const SynthTensor& t : synth_tensors(shape, shape.layers)) {
        double n = 1;
        for (const int64_t d : t.shape) n *= double(d);
        parameters += n;
      }
      EXPECT_NEAR(parameters / count, 1, 5e-4) << name << " " << parameters;
    }
  }
}

// The layer of multi-token prediction stands behind the others, under the names that the published checkpoint's have in
// GGUF; without it the file holds what the model is said to have.
TEST(SynthShapes, V3PredictsAhead) {
  for (SynthShape shape : all_synth_shapes()) {
    if (shape.name != "v3") continue;
    std::map<std::string, std::vector<int64_t>> shapes;
    for (const SynthTensor& t : synth_tensors(shape, 61)) shapes[t.name] = t.shape;
    const std::map<std::string, std::vector<int64_t>> expected = {{"blk.61.nextn.eh_proj.weight", {7168, 14336}},
                                                                  {"blk.61.nextn.enorm.weight", {7168}},
                                                                  {"blk.61.nextn.hnorm.weight", {7168}},
                                                                  {"blk.61.nextn.embed_tokens.weight", {129280, 7168}},
                                                                  {"blk.61.nextn.shared_head_head.weight", {129280, 7168}},
                                                                  {"blk.61.nextn.shared_head_norm.weight", {7168}},
                                                                  {"blk.61.attn_q_a.weight", {1536, 7168}},
                                                                  {"blk.61.exp_probs_b.bias", {256}},
                                                                  {"blk.61.ffn_gate_exps.weight", {256, 2048, 7168}}};
    for (const auto& [name, dims] : expected) EXPECT_EQ(shapes[name], dims) << name;
    EXPECT_EQ(shapes.count("blk.62.attn_norm.weight"), 0u);
    shape.mtp_layers = 0;
    double parameters = 0;
    for (const SynthTensor& t : synth_tensors(shape, 61)) {
      double n = 1;
      for (const int64_t d : t.shape) n *= double(d);
      parameters += n;
    }
    EXPECT_NEAR(parameters / 671.026e9, 1, 5e-4);
  }
}

TEST_F(Synth, WithoutPredictionAhead) {
  const std::string out = (folder_ / "x.gguf").string();
  ASSERT_TRUE(write_synthetic({"mini", "Q8_0", out, 2, 0, {}, false}).ok());
  const auto opened = Checkpoint::open(out);
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  EXPECT_EQ((*opened)->config().at("num_hidden_layers"), 2);
  EXPECT_EQ((*opened)->config().at("num_nextn_predict_layers"), 0);
  EXPECT_EQ((*opened)->find("model.layers.2.eh_proj.weight"), nullptr);
}

TEST_F(Synth, SameSeedSameBytes) {
  const std::string first = bytes_of(write("smollm2-135m", "Q4_0", 2, 7)),
                    again = bytes_of(write("smollm2-135m", "Q4_0", 2, 7));
  EXPECT_TRUE(first == again);
  const std::string other = bytes_of(write("smollm2-135m", "Q4_0", 2, 8));
  EXPECT_EQ(first.size(), other.size());
  EXPECT_FALSE(first == other);
}

TEST_F(Synth, RefusesWhatCannotBe) {
  const auto code = [&](SynthOptions options) {
    const auto result = write_synthetic(options);
    return result.ok() ? std::string("ok") : result.error().message();
  };
  const std::string out = (folder_ / "x.gguf").string();
  EXPECT_NE(code({"v4", "Q8_0", out, {}, 0, {}}).find("smollm2-135m"), std::string::npos);
  EXPECT_NE(code({"v3", "Q3", out, {}, 0, {}}).find("Q4_K_M"), std::string::npos);
  EXPECT_NE(code({"v3", "Q8_0", out, 62, 0, {}}).find("1 to 61"), std::string::npos);
  EXPECT_NE(code({"v3", "Q8_0", out, 0, 0, {}}).find("1 to 61"), std::string::npos);
  const auto space = fs::space(folder_);
  if (space.available < 1'300'000'000'000) {  // BF16 of V3 is 1.34 TB
    EXPECT_NE(code({"v3", "BF16", out, {}, 0, {}}).find("too full"), std::string::npos);
  }
  EXPECT_NE(code({"smollm2-135m", "Q8_0", (folder_ / "no" / "x.gguf").string(), 1, 0, {}}), "ok");
}

TEST_F(Synth, CancelledLeavesNothing) {
  const std::string out = (folder_ / "x.gguf").string();
  int64_t last = 0;
  const auto result = write_synthetic({"smollm2-135m", "Q8_0", out, 1, 0, [&](int64_t done, int64_t total) {
                                         EXPECT_GT(done, last);
                                         EXPECT_LE(done, total);
                                         last = done;
                                         return done < total / 2;
                                       }});
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, Code::kCancelled);
  EXPECT_TRUE(fs::is_empty(folder_));
}

}  // namespace
}  // namespace sonde
