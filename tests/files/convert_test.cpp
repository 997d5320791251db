// Hugging Face -> GGUF -> Hugging Face and the other way round: nothing is lost.
#include "files/convert.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "files/gguf.h"
#include "support.h"

namespace sonde {
namespace {

using nlohmann::json;
using test::why;

std::unique_ptr<Checkpoint> open(const std::string& path) {
  auto opened = Checkpoint::open(path);
  EXPECT_TRUE(opened.ok()) << why(opened);
  return opened.ok() ? std::move(*opened) : nullptr;
}

void expect_same_tensors(const Checkpoint& a, const Checkpoint& b) {
  EXPECT_EQ(a.tensors().size(), b.tensors().size());
  for (const auto& [name, tensor] : a.tensors()) {
    const Tensor* other = b.find(name);
    ASSERT_NE(other, nullptr) << name;
    EXPECT_TRUE(test::same(tensor, *other)) << name << " " << tensor.type->name << " " << other->type->name;
  }
}

// What a model computes with; other words of config.json (dropout, initializer_range ...) concern training alone.
constexpr const char* kMeaning[] = {"model_type",
                                    "vocab_size",
                                    "hidden_size",
                                    "intermediate_size",
                                    "num_hidden_layers",
                                    "num_attention_heads",
                                    "num_key_value_heads",
                                    "max_position_embeddings",
                                    "rms_norm_eps",
                                    "rope_theta",
                                    "tie_word_embeddings",
                                    "q_lora_rank",
                                    "kv_lora_rank",
                                    "qk_nope_head_dim",
                                    "qk_rope_head_dim",
                                    "v_head_dim",
                                    "n_routed_experts",
                                    "num_experts_per_tok",
                                    "n_shared_experts",
                                    "moe_intermediate_size",
                                    "first_k_dense_replace",
                                    "n_group",
                                    "topk_group",
                                    "routed_scaling_factor",
                                    "norm_topk_prob",
                                    "scoring_func",
                                    "topk_method",
                                    "num_nextn_predict_layers",
                                    "head_dim"};

void expect_same_meaning(const json& original, const json& converted) {
  for (const char* key : kMeaning) {
    if (!original.contains(key)) continue;
    const json expected = original[key];
    if (expected.is_number_float()) {
      ASSERT_TRUE(converted.contains(key)) << key;
      EXPECT_DOUBLE_EQ(converted[key].get<double>(), expected.get<double>()) << key;
    } else {
      EXPECT_EQ(converted.value(key, json()), expected) << key;
    }
  }
  if (!original.contains("rope_scaling") || original["rope_scaling"].is_null()) return;
  for (const auto& [key, value] : original["rope_scaling"].items()) {
    const json other = converted["rope_scaling"].value(key, json());
    if (key == "rope_theta" || key == "attention_factor") continue;
    ASSERT_EQ(value.is_number(), other.is_number()) << key;
    if (value.is_number()) {
      EXPECT_EQ(other.get<double>(), value.get<double>()) << key;
    } else if (key != "type") {
      EXPECT_EQ(value, other) << key;
    }
  }
}

// Folders of /models that the GGUF form can say.
bool convertible(const std::string& folder) {
  const std::string type = json::parse(test::read_file(folder + "/config.json"))["model_type"];
  return folder.find("fp8") == folder.npos && type != "deepseek_v32" && type != "deepseek_v4";
}

void round_trip(const std::string& folder) {
  SCOPED_TRACE(folder);
  test::TemporaryFolder out;
  const auto original = open(folder);
  ASSERT_NE(original, nullptr);
  int64_t last = 0, total = 0;
  const Status to_gguf = convert_to_gguf(*original, out / "model.gguf", [&](int64_t done, int64_t all) {
    EXPECT_GE(done, last);
    last = done, total = all;
    return true;
  });
  ASSERT_TRUE(to_gguf.ok()) << to_gguf.error().message();
  EXPECT_EQ(last, total);
  EXPECT_GT(total, 0);
  const auto gguf = open(out / "model.gguf");
  ASSERT_NE(gguf, nullptr);
  expect_same_meaning(original->config(), gguf->config());
  EXPECT_EQ(gguf->end_tokens(), original->end_tokens());
  EXPECT_EQ(gguf->bos_token(), original->bos_token());
  EXPECT_EQ(gguf->chat_template(), original->chat_template());

  const Status to_hf = convert_to_hf(*gguf, out / "back");
  ASSERT_TRUE(to_hf.ok()) << to_hf.error().message();
  const auto back = open(out / "back");
  ASSERT_NE(back, nullptr);
  expect_same_tensors(*original, *back);
  expect_same_meaning(original->config(), back->config());
  EXPECT_EQ(back->end_tokens(), original->end_tokens());
  EXPECT_EQ(back->bos_token(), original->bos_token());
  EXPECT_EQ(back->chat_template(), original->chat_template());
  if (original->generation_config().is_object()) {
    for (const char* key : {"do_sample", "temperature", "top_p", "top_k"})
      EXPECT_EQ(back->generation_config().value(key, json()), original->generation_config().value(key, json())) << key;
  }
  if (!original->tokenizer().tokenizer_json.empty()) {
    const json before = json::parse(original->tokenizer().tokenizer_json),
               after = json::parse(back->tokenizer().tokenizer_json);
    for (const char* key : {"normalizer", "pre_tokenizer", "post_processor", "decoder", "added_tokens"})
      EXPECT_EQ(after.value(key, json()), before.value(key, json())) << key;
  }
  EXPECT_FALSE(convert_to_hf(*gguf, out / "back").ok());  // it is there already

  ASSERT_TRUE(convert_to_gguf(*back, out / "again.gguf").ok());
  const auto again = open(out / "again.gguf");
  ASSERT_NE(again, nullptr);
  expect_same_tensors(*gguf, *again);
  EXPECT_EQ(again->config(), gguf->config());
}

TEST(Convert, EveryFolderThereAndBack) {
  int seen = 0;
  for (const std::string& folder : test::goldens("models", "")) {
    if (convertible(folder)) round_trip(folder), ++seen;
  }
  EXPECT_GE(seen, 6);
}

TEST(Convert, TheModelOfThisProject) { round_trip(test::source("models/mini")); }

TEST(Convert, RealFolders) {
  SONDE_NEEDS_ASSETS();
  for (const std::string name : {"stories260K", "babyllama105"}) {
    const std::string folder = test::assets() + "/models/" + name;
    round_trip(folder + "/hf");
    // The same model as others have converted it.
    test::TemporaryFolder out;
    const auto hf = open(folder + "/hf"), theirs = open(folder + "/" + name + ".F32.gguf");
    ASSERT_TRUE(convert_to_gguf(*hf, out / "ours.gguf").ok());
    const auto ours = open(out / "ours.gguf");
    expect_same_tensors(*theirs, *ours);
    EXPECT_EQ(ours->tokenizer().gguf->tokens, theirs->tokenizer().gguf->tokens);
    EXPECT_EQ(ours->tokenizer().gguf->types, theirs->tokenizer().gguf->types);
    EXPECT_EQ(ours->tokenizer().gguf->ids, theirs->tokenizer().gguf->ids);
    EXPECT_EQ(ours->tokenizer().gguf->add_bos, theirs->tokenizer().gguf->add_bos);
    json expected = theirs->config();
    EXPECT_EQ(ours->config(), expected);
    // Scores are ours, but they order the pieces alike where a merge makes them.
    const auto merged = json::parse(hf->tokenizer().tokenizer_json)["model"]["merges"];
    float before = 1;
    for (const auto& merge : merged) {
      const std::string piece = merge[0].get<std::string>() + merge[1].get<std::string>();
      const auto& tokens = ours->tokenizer().gguf->tokens;
      const auto at = std::find(tokens.begin(), tokens.end(), piece);
      ASSERT_NE(at, tokens.end());
      const float score = ours->tokenizer().gguf->scores[static_cast<std::size_t>(at - tokens.begin())];
      EXPECT_LE(score, before) << piece;  // several merges may make one piece
      before = score;
    }
  }
}

TEST(Convert, GgufFilesThereAndBack) {
  int plain = 0, refused = 0;
  for (const std::string& file : test::goldens("gguf", ".gguf")) {
    SCOPED_TRACE(file);
    const auto original = open(file);
    ASSERT_NE(original, nullptr);
    const std::string type = original->config().value("file_type", "");
    test::TemporaryFolder out;
    const Status status = convert_to_hf(*original, out / "hf");
    if (type != "F32" && type != "F16" && type != "BF16") {
      EXPECT_FALSE(status.ok());
      EXPECT_TRUE(std::filesystem::is_empty(out.path()));
      ++refused;
      continue;
    }
    ASSERT_TRUE(status.ok()) << status.error().message();
    ++plain;
    const auto hf = open(out / "hf");
    ASSERT_TRUE(convert_to_gguf(*hf, out / "again.gguf").ok());
    const auto again = open(out / "again.gguf");
    ASSERT_NE(again, nullptr);
    if (original->find("model.layers.0.self_attn.kv_b_proj.weight") == nullptr) {
      for (const auto& [name, tensor] : original->tensors()) {
        ASSERT_NE(again->find(name), nullptr) << name;
        if (name == "rope_freqs.weight") {  // theirs was computed in F32
          EXPECT_EQ(again->find(name)->shape, tensor.shape);
        } else {
          EXPECT_TRUE(test::same(tensor, *again->find(name))) << name;
        }
      }
    }
    json first = original->config(), second = again->config();
    EXPECT_EQ(first, second);
    EXPECT_EQ(original->tokenizer().gguf->tokens, again->tokenizer().gguf->tokens);
    EXPECT_EQ(original->tokenizer().gguf->types, again->tokenizer().gguf->types);
    EXPECT_EQ(original->tokenizer().gguf->merges, again->tokenizer().gguf->merges);
    EXPECT_EQ(original->tokenizer().gguf->pre, again->tokenizer().gguf->pre);
    EXPECT_EQ(original->tokenizer().gguf->add_bos, again->tokenizer().gguf->add_bos);
    ASSERT_TRUE(convert_to_hf(*again, out / "hf2").ok());
    expect_same_tensors(*hf, *open(out / "hf2"));
  }
  EXPECT_GE(plain, 1);
  EXPECT_GE(refused, 3);
}

TEST(Convert, WhatTheOtherFormCannotSay) {
  test::TemporaryFolder out;
  const auto fp8 = open(test::find_golden("models/v3-fp8-ue8m0"));
  const Status status = convert_to_gguf(*fp8, out / "x.gguf");
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message().find("FP8"), std::string::npos) << status.error().message();
  EXPECT_FALSE(convert_to_hf(*fp8, out / "x").ok());
  const auto gguf = open(test::find_golden("gguf/v3-split-mtp.BF16.gguf"));
  EXPECT_FALSE(convert_to_gguf(*gguf, out / "y.gguf").ok());
  const Status stopped = convert_to_hf(*gguf, out / "z", [](int64_t, int64_t) { return false; });
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.error().code, Code::kCancelled);
  EXPECT_TRUE(std::filesystem::is_empty(out.path()));
}

// Qwen's split without NFC has no name: a key of ours keeps texts that are not in NFC as they were.
TEST(Convert, TextThatIsNotComposedKeepsItsIds) {
  test::TemporaryFolder out;
  const auto original = open(test::source("models/mini"));
  ASSERT_TRUE(convert_to_gguf(*original, out / "mini.gguf").ok());
  const auto gguf = open(out / "mini.gguf");
  EXPECT_EQ(gguf->tokenizer().gguf->pre, "qwen2");
  EXPECT_TRUE(gguf->tokenizer().gguf->no_normalizer);
  EXPECT_TRUE(gguf->tokenizer().gguf->no_post_processor);
}

// Published vocabularies, carried by a small model: the way they split text has a name, and comes back.
TEST(Convert, PublishedVocabularies) {
  SONDE_NEEDS_ASSETS();
  const std::pair<const char*, const char*> published[] = {
      {"deepseek-v3", "deepseek-v3"}, {"qwen3", "qwen2"}, {"llama3", "llama-bpe"}};
  for (const auto& [name, pre] : published) {
    SCOPED_TRACE(name);
    const std::string source = fmt::format("{}/tokenizers/{}/models/", test::assets(), name);
    test::TemporaryFolder out;
    const std::string golden = test::find_golden("models/qwen2-tied-bf16");
    json config = json::parse(test::read_file(golden + "/config.json"));
    config["vocab_size"] = 152064;
    config["bos_token_id"] = nullptr;
    test::write_file(out / "config.json", config.dump());
    std::filesystem::copy_file(golden + "/model.safetensors", out / "model.safetensors");
    std::filesystem::copy_file(source + "tokenizer.json", out / "tokenizer.json");
    std::filesystem::copy_file(source + "tokenizer_config.json", out / "tokenizer_config.json");
    const auto hf = open(out.path());
    ASSERT_NE(hf, nullptr);
    const Status status = convert_to_gguf(*hf, out / "model.gguf");
    ASSERT_TRUE(status.ok()) << status.error().message();
    const auto gguf = open(out / "model.gguf");
    ASSERT_NE(gguf, nullptr);
    const auto& v = *gguf->tokenizer().gguf;
    EXPECT_EQ(v.pre, pre);
    EXPECT_EQ(v.tokens.size(), 152064u);
    EXPECT_EQ(v.tokens.back(), "[PAD152063]");
    EXPECT_EQ(v.types.back(), 5);
    ASSERT_TRUE(convert_to_hf(*gguf, out / "hf").ok());
    const json before = json::parse(test::read_file(source + "tokenizer.json")),
               after = json::parse(test::read_file(out / "hf/tokenizer.json"));
    std::map<std::string, int> words, words_after;
    for (const auto* t : {&before, &after}) {
      auto& into = t == &before ? words : words_after;
      for (const auto& [text, id] : (*t)["model"]["vocab"].items()) into[text] = id;
      for (const auto& token : (*t)["added_tokens"]) into[token["content"]] = token["id"];
    }
    EXPECT_EQ(words, words_after);
    ASSERT_EQ(before["model"]["merges"].size(), after["model"]["merges"].size());
    for (std::size_t i = 0; i < before["model"]["merges"].size(); ++i) {
      const json &a = before["model"]["merges"][i], &b = after["model"]["merges"][i];
      const std::string joined = b[0].get<std::string>() + " " + b[1].get<std::string>();
      ASSERT_EQ(a.is_string() ? a.get<std::string>() : a[0].get<std::string>() + " " + a[1].get<std::string>(), joined);
    }
    const auto hf2 = open(out / "hf");
    ASSERT_NE(hf2, nullptr);
    const Status again = convert_to_gguf(*hf2, out / "again.gguf");
    ASSERT_TRUE(again.ok()) << again.error().message();
    const auto gguf2 = open(out / "again.gguf");
    EXPECT_EQ(gguf2->tokenizer().gguf->tokens, v.tokens);
    EXPECT_EQ(gguf2->tokenizer().gguf->types, v.types);
    EXPECT_EQ(gguf2->tokenizer().gguf->ids, v.ids);
  }
}

}  // namespace
}  // namespace sonde
