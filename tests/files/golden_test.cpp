// Every golden opens: names, shapes, counts and config as its about.json says.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "files/gguf.h"
#include "support.h"

namespace sonde {
namespace {

using nlohmann::json;
using test::why;

json parse_file(const std::string& path) { return json::parse(test::read_file(path)); }

TEST(Goldens, HuggingFaceFoldersOpen) {
  for (const std::string& folder : test::goldens("models", "")) {
    SCOPED_TRACE(folder);
    auto checkpoint = Checkpoint::open(folder);
    ASSERT_TRUE(checkpoint.ok()) << why(checkpoint);
    const Checkpoint& c = **checkpoint;
    EXPECT_EQ(c.format(), Checkpoint::Format::kSafetensors);
    EXPECT_EQ(c.config(), parse_file(folder + "/config.json"));
    const int64_t vocabulary = c.config()["vocab_size"], width = c.config()["hidden_size"];
    const bool v4 = c.config()["model_type"] == "deepseek_v4";
    const std::string embedding = v4 ? "embed.weight" : "model.embed_tokens.weight";
    const Tensor* e = c.find(embedding);
    ASSERT_NE(e, nullptr);
    EXPECT_EQ(e->shape, (std::vector<int64_t>{vocabulary, width}));
    EXPECT_TRUE(c.matrix(embedding, vocabulary, width).ok());
    EXPECT_FALSE(c.matrix(embedding, vocabulary + 1, width).ok());
    EXPECT_FALSE(c.matrix("no.such.tensor", 1, 1).ok());
    EXPECT_EQ(c.bos_token(), c.config()["bos_token_id"].get<int32_t>());
    EXPECT_TRUE(c.gguf_metadata().is_null());
  }
}

TEST(Goldens, Fp8ScalesAreFound) {
  int seen = 0;
  for (const char* name : {"models/v3-fp8", "models/v3-fp8-ue8m0", "models/v32-fp8", "models/v4-fp4"}) {
    const std::string folder = test::find_golden(name);
    if (folder.empty()) continue;
    SCOPED_TRACE(folder);
    auto checkpoint = Checkpoint::open(folder);
    ASSERT_TRUE(checkpoint.ok()) << why(checkpoint);
    for (const auto& [tensor_name, tensor] : (*checkpoint)->tensors()) {
      if (tensor.type->safetensors != "F8_E4M3") continue;
      auto m = (*checkpoint)->matrix(tensor_name, tensor.dim(0), tensor.dim(1));
      ASSERT_TRUE(m.ok()) << why(m);
      ASSERT_NE(m->scales, nullptr) << tensor_name;
      EXPECT_EQ(m->scale_block, 128);
      EXPECT_EQ(m->scale_cols, (tensor.dim(1) + 127) / 128);
      ++seen;
    }
  }
  EXPECT_GT(seen, 0);
}

TEST(Goldens, ShardsAreReadThroughTheIndex) {
  const std::string folder = test::find_golden("models/v3-bf16");
  ASSERT_FALSE(folder.empty());
  auto checkpoint = Checkpoint::open(folder);
  ASSERT_TRUE(checkpoint.ok()) << why(checkpoint);
  const json index = parse_file(folder + "/model.safetensors.index.json");
  EXPECT_EQ((*checkpoint)->tensors().size(), index["weight_map"].size());
  auto by_index = Checkpoint::open(folder + "/model.safetensors.index.json");
  ASSERT_TRUE(by_index.ok()) << why(by_index);
  EXPECT_EQ((*by_index)->tensors().size(), (*checkpoint)->tensors().size());
}

// The number of tensors after stacked experts have been taken apart.
std::size_t expected_tensors(const Gguf& file, std::size_t experts) {
  std::size_t n = 0;
  for (const auto& e : file.tensors) n += e.name.find("_exps.") != std::string::npos ? experts : 1;
  return n;
}

TEST(Goldens, GgufConfigsAndTensors) {
  const json about = parse_file(test::find_golden("gguf/about.json"));
  int seen = 0;
  for (const std::string& file : test::goldens("gguf", ".gguf")) {
    SCOPED_TRACE(file);
    auto opened = Checkpoint::open(file);
    ASSERT_TRUE(opened.ok()) << why(opened);
    const Checkpoint& c = **opened;
    const json& entry = about.at(std::filesystem::path(file).stem().string());
    json expected = entry["config"];
    const json& config = c.config();
    if (config.contains("rope_pairs")) {  // llama3 scaling is in rope_freqs.weight instead
      EXPECT_EQ(config["rope_pairs"], "interleaved");
      EXPECT_NE(c.find("rope_freqs.weight"), nullptr);
      expected.erase("rope_scaling");
    }
    for (const auto& [key, value] : expected.items()) {
      if (key == "rope_scaling" && value.is_object()) {
        for (const char* word : {"type", "factor", "original_max_position_embeddings", "beta_fast", "beta_slow",
                                 "mscale", "mscale_all_dim"}) {
          if (value.contains(word)) { EXPECT_EQ(config[key][word], value[word]) << word; }
        }
      } else if (key == "tie_word_embeddings" || key == "architectures" || value.is_number() || value.is_boolean()) {
        if (config.contains(key)) { EXPECT_EQ(config[key], value) << key; }
      } else if (value.is_string()) {
        EXPECT_EQ(config.value(key, ""), value.get<std::string>()) << key;
      }
    }
    for (const char* word :
         {"model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
          "num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "rope_theta", "tie_word_embeddings"}) {
      EXPECT_TRUE(config.contains(word)) << word;
    }
    auto raw = open_gguf(file);
    ASSERT_TRUE(raw.ok()) << why(raw);
    EXPECT_EQ(c.tensors().size(), expected_tensors(*raw, config.value("n_routed_experts", 0)));
    std::map<std::string, int64_t> types;
    for (const auto& t : raw->tensors) ++types[std::string(t.tensor.type->name)];
    EXPECT_EQ(json(types), entry["tensor_types"]);
    for (const auto& [name, tensor] : c.tensors()) EXPECT_FALSE(name.starts_with("blk.")) << name;
    if (config.contains("kv_lora_rank") && !entry["joined_kv_b"].get<bool>()) {
      const int64_t heads = config["num_attention_heads"], rank = config["kv_lora_rank"];
      const Tensor *k = c.find("model.layers.0.self_attn.k_b_proj.weight"),
                   *v = c.find("model.layers.0.self_attn.v_b_proj.weight");
      ASSERT_TRUE(k != nullptr && v != nullptr);
      EXPECT_EQ(k->shape, (std::vector<int64_t>{heads, rank, config["qk_nope_head_dim"]}));
      EXPECT_EQ(v->shape, (std::vector<int64_t>{heads, config["v_head_dim"], rank}));
    }
    ASSERT_TRUE(c.tokenizer().gguf.has_value());
    EXPECT_EQ(c.tokenizer().gguf->tokens.size(), 512u);
    EXPECT_EQ(c.end_tokens(), std::vector<int32_t>{497});
    EXPECT_EQ(c.bos_token(), 496);
    EXPECT_EQ(c.gguf_metadata()["tokenizer.ggml.tokens"]["count"], 512);
    ++seen;
  }
  EXPECT_GE(seen, 5);
}

TEST(Goldens, SplitGgufEqualsTheWhole) {
  const std::string parts = test::find_golden("gguf/split"), whole = test::find_golden("gguf/v2-lite-split.Q8_0.gguf");
  ASSERT_FALSE(parts.empty() || whole.empty());
  auto a = Checkpoint::open(parts + "/v2-lite-split.Q8_0-00001-of-00003.gguf");
  auto b = Checkpoint::open(whole);
  ASSERT_TRUE(a.ok()) << why(a);
  ASSERT_TRUE(b.ok()) << why(b);
  EXPECT_EQ((*a)->config(), (*b)->config());
  ASSERT_EQ((*a)->tensors().size(), (*b)->tensors().size());
  for (const auto& [name, tensor] : (*b)->tensors()) {
    ASSERT_NE((*a)->find(name), nullptr) << name;
    EXPECT_TRUE(test::same(*(*a)->find(name), tensor)) << name;
  }
  auto second = Checkpoint::open(parts + "/v2-lite-split.Q8_0-00002-of-00003.gguf");
  EXPECT_FALSE(second.ok());
}

TEST(Goldens, VocabulariesAloneOpen) {
  SONDE_NEEDS_ASSETS();
  int seen = 0;
  for (const auto& entry : std::filesystem::directory_iterator(test::assets() + "/vectors/gguf-vocabs")) {
    if (entry.path().extension() != ".gguf") continue;
    SCOPED_TRACE(entry.path().string());
    auto c = Checkpoint::open(entry.path().string());
    ASSERT_TRUE(c.ok()) << why(c);
    EXPECT_TRUE((*c)->tensors().empty());
    ASSERT_TRUE((*c)->tokenizer().gguf.has_value());
    EXPECT_GT((*c)->tokenizer().gguf->tokens.size(), 30000u);
    ++seen;
  }
  EXPECT_EQ(seen, 4);
}

TEST(Goldens, RealModelsOpen) {
  SONDE_NEEDS_ASSETS();
  const std::string models = test::assets() + "/models/";
  auto smol = Checkpoint::open(models + "smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf");
  ASSERT_TRUE(smol.ok()) << why(smol);
  EXPECT_EQ((*smol)->tensors().size(), 272u);
  EXPECT_EQ((*smol)->config()["tie_word_embeddings"], true);
  EXPECT_EQ((*smol)->config()["rope_pairs"], "interleaved");
  EXPECT_EQ((*smol)->config()["file_type"], "Q4_1");
  EXPECT_EQ((*smol)->end_tokens(), std::vector<int32_t>{2});
  EXPECT_EQ((*smol)->add_bos(), false);
  EXPECT_NE((*smol)->chat_template().find("<|im_start|>"), std::string::npos);
  auto mini = Checkpoint::open(models + "mini");
  ASSERT_TRUE(mini.ok()) << why(mini);
  EXPECT_FALSE((*mini)->tokenizer().tokenizer_json.empty());
  EXPECT_FALSE((*mini)->chat_template().empty());
  EXPECT_EQ((*mini)->end_tokens(), std::vector<int32_t>{1});
  for (const char* name : {"stories260K", "babyllama105"}) {
    EXPECT_TRUE(Checkpoint::open(models + name + "/hf").ok());
    EXPECT_TRUE(Checkpoint::open(models + name + "/" + name + ".F32.gguf").ok());
    EXPECT_TRUE(Checkpoint::open(models + name + "/" + name + ".Q8_0.gguf").ok());
  }
  auto vocabulary = Checkpoint::open(models + "smollm2-135m-instruct");
  ASSERT_TRUE(vocabulary.ok()) << why(vocabulary);
  EXPECT_TRUE((*vocabulary)->config().is_null());
}

}  // namespace
}  // namespace sonde
