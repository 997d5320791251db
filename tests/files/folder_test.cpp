// Folders as people have them.
#include "files/folder.h"

#include <nlohmann/json.hpp>

#include "files/output.h"
#include "support.h"

namespace sonde {
namespace {

using nlohmann::json;
using test::why;

TEST(EndTokens, NumbersAndListsWithoutDoubles) {
  std::vector<int32_t> ids;
  add_end_tokens(json{{"eos_token_id", 5}}, ids);
  add_end_tokens(json{{"eos_token_id", {7, 5, 9}}}, ids);
  add_end_tokens(json{{"eos_token_id", nullptr}}, ids);
  add_end_tokens(json{{"eos_token_id", {-1, 2.5, "x", 4294967296}}}, ids);
  add_end_tokens(json(), ids);
  EXPECT_EQ(ids, (std::vector<int32_t>{5, 7, 9}));
}

TEST(TokenizerConfig, TemplatesInEveryForm) {
  EXPECT_EQ(parse_tokenizer_config(R"({"chat_template":"a","add_bos_token":true})", "x")->chat_template, "a");
  EXPECT_EQ(parse_tokenizer_config(R"({"chat_template":"a","add_bos_token":true})", "x")->add_bos, true);
  EXPECT_EQ(parse_tokenizer_config(R"({"add_bos_token":null})", "x")->add_bos, std::nullopt);
  const char* several =
      R"({"chat_template":[{"name":"tool_use","template":"t"},{"name":"default","template":"d"},{"name":"rag","template":"r"}]})";
  EXPECT_EQ(parse_tokenizer_config(several, "x")->chat_template, "d");
  EXPECT_EQ(parse_tokenizer_config(R"({"chat_template":[{"name":"other","template":"o"},3]})", "x")->chat_template,
            "o");
  EXPECT_EQ(parse_tokenizer_config("{}", "x")->chat_template, "");
  EXPECT_FALSE(parse_tokenizer_config("[]", "x").ok());
  EXPECT_FALSE(parse_tokenizer_config("{", "x").ok());
}

TEST(ScaleBlock, DefaultAndStated) {
  EXPECT_EQ(*scale_block(json::object(), "x"), 128);
  EXPECT_EQ(*scale_block(json::parse(R"({"quantization_config":{"weight_block_size":[32,32]}})"), "x"), 32);
  EXPECT_FALSE(scale_block(json::parse(R"({"quantization_config":{"weight_block_size":[1,128]}})"), "x").ok());
  EXPECT_FALSE(scale_block(json::parse(R"({"quantization_config":{"weight_block_size":[0,0]}})"), "x").ok());
}

// A tiny folder whose weight is FP8 [130, 5] with scales of the wanted name, type and shape.
std::string fp8_folder(const test::TemporaryFolder& folder, const std::string& scale, const Type& type,
                       std::vector<int64_t> shape) {
  static const std::string zeros(4096, '\0');
  test::write_file(folder / "config.json", R"({"model_type":"deepseek_v3","eos_token_id":[3,4],"bos_token_id":2})");
  std::vector<TensorToWrite> tensors = {
      {"a.weight", {type_by_safetensors("F8_E4M3"), {130, 5}, test::bytes_of(zeros).first(650)}}};
  if (!scale.empty()) {
    Tensor s{&type, std::move(shape), {}};
    s.bytes = test::bytes_of(zeros).first(static_cast<std::size_t>(s.count() * type.bytes));
    tensors.push_back({scale, s});
  }
  EXPECT_TRUE(write_safetensors(folder / "model.safetensors", tensors).ok());
  return folder.path();
}

TEST(Fp8, ScalesByEitherNameAndEveryType) {
  test::TemporaryFolder folder;
  const Type* e8m0 = type_by_safetensors("F8_E8M0");
  ASSERT_NE(e8m0, nullptr);
  for (const std::string name : {"a.weight_scale_inv", "a.scale"}) {
    for (const Type* type : {f32(), bf16(), e8m0}) {
      auto c = Checkpoint::open(fp8_folder(folder, name, *type, {2, 1}));
      ASSERT_TRUE(c.ok()) << why(c);
      auto m = (*c)->matrix("a.weight", 130, 5);
      ASSERT_TRUE(m.ok()) << why(m);
      EXPECT_EQ(m->scale_type, type);
      EXPECT_EQ(m->scale_cols, 1);
      EXPECT_EQ(m->slice(128, 2).scales, m->scales + type->bytes);
    }
    EXPECT_FALSE((*Checkpoint::open(fp8_folder(folder, name, *f32(), {1, 1})))->matrix("a.weight", 130, 5).ok());
    EXPECT_FALSE((*Checkpoint::open(fp8_folder(folder, name, *f32(), {2, 2})))->matrix("a.weight", 130, 5).ok());
    EXPECT_FALSE((*Checkpoint::open(fp8_folder(folder, name, *f16(), {2, 1})))->matrix("a.weight", 130, 5).ok());
  }
  auto bare = (*Checkpoint::open(fp8_folder(folder, "", *f32(), {})))->matrix("a.weight", 130, 5);
  ASSERT_TRUE(bare.ok()) << why(bare);
  EXPECT_EQ(bare->scales, nullptr);
}

TEST(Folders, WhatLiesBesideTheWeights) {
  test::TemporaryFolder folder;
  fp8_folder(folder, "", *f32(), {});
  test::write_file(folder / "generation_config.json", R"({"eos_token_id":[4,8],"bos_token_id":9})");
  test::write_file(folder / "tokenizer_config.json", R"({"chat_template":"from config","add_bos_token":false})");
  test::write_file(folder / "tokenizer.json", "{}");
  test::write_file(folder / "consolidated.safetensors", "rubbish that nobody reads");
  auto c = Checkpoint::open(folder.path());
  ASSERT_TRUE(c.ok()) << why(c);
  EXPECT_EQ((*c)->end_tokens(), (std::vector<int32_t>{3, 4, 8}));
  EXPECT_EQ((*c)->bos_token(), 2);
  EXPECT_EQ((*c)->add_bos(), false);
  EXPECT_EQ((*c)->chat_template(), "from config");
  EXPECT_EQ((*c)->tokenizer().tokenizer_json, "{}");
  EXPECT_EQ((*c)->file_bytes(), static_cast<int64_t>(std::filesystem::file_size(folder / "model.safetensors")));
  test::write_file(folder / "chat_template.jinja", "from jinja");
  EXPECT_EQ((*Checkpoint::open(folder.path()))->chat_template(), "from jinja");
  EXPECT_TRUE(Checkpoint::open(folder / "model.safetensors").ok());
  std::filesystem::remove(folder / "model.safetensors");
  std::filesystem::remove(folder / "config.json");
  auto words = Checkpoint::open(folder.path());
  ASSERT_TRUE(words.ok()) << why(words);
  EXPECT_TRUE((*words)->config().is_null());
  EXPECT_TRUE((*words)->tensors().empty());
}

TEST(Vectors, AreUnpackedAndCounted) {
  test::TemporaryFolder folder;
  const uint16_t halves[3] = {0x3C00, 0xC000, 0x3800};  // 1, -2, 0.5
  const int32_t numbers[1] = {7};
  test::write_file(folder / "config.json", "{}");
  ASSERT_TRUE(
      write_safetensors(folder / "model.safetensors", {{"v", {f16(), {3}, std::as_bytes(std::span(halves))}},
                                                       {"s", {f16(), {}, std::as_bytes(std::span(halves)).first(2)}},
                                                       {"i", {i32(), {1}, std::as_bytes(std::span(numbers))}}})
          .ok());
  auto c = Checkpoint::open(folder.path());
  ASSERT_TRUE(c.ok()) << why(c);
  EXPECT_EQ(*(*c)->vector("v", 3), (std::vector<float>{1, -2, 0.5f}));
  EXPECT_EQ(*(*c)->vector("s", 1), std::vector<float>{1});
  EXPECT_FALSE((*c)->vector("v", 2).ok());
  EXPECT_FALSE((*c)->vector("i", 1).ok());
  EXPECT_FALSE((*c)->vector("none", 1).ok());
  EXPECT_FALSE((*c)->matrix("v", 3, 1).ok());
}

TEST(OutputFiles, AppearWhenTheyAreComplete) {
  test::TemporaryFolder folder;
  {
    auto file = OutputFile::create(folder / "a");
    ASSERT_TRUE(file.ok()) << why(file);
    ASSERT_TRUE((*file)->write("half").ok());
    EXPECT_FALSE(std::filesystem::exists(folder / "a"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  auto file = OutputFile::create(folder / "a");
  const std::string large(3 << 20, 'z');
  ASSERT_TRUE((*file)->write("ab").ok() && (*file)->write(large).ok() && (*file)->zeros(5000).ok());
  EXPECT_EQ((*file)->position(), 2 + (3 << 20) + 5000);
  ASSERT_TRUE((*file)->commit().ok());
  EXPECT_EQ(test::read_file(folder / "a"), "ab" + large + std::string(5000, '\0'));
}

}  // namespace
}  // namespace sonde
