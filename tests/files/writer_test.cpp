// What the writers write, the readers read back to the bit.
#include <nlohmann/json.hpp>

#include "files/gguf.h"
#include "support.h"

namespace sonde {
namespace {

using test::why;

TEST(SafetensorsWriter, RoundTripOfEveryGolden) {
  test::TemporaryFolder folder;
  for (const std::string& golden : test::goldens("models", "")) {
    SCOPED_TRACE(golden);
    if (!std::filesystem::exists(golden + "/model.safetensors")) continue;
    auto original = open_safetensors(golden + "/model.safetensors");
    ASSERT_TRUE(original.ok()) << why(original);
    std::vector<TensorToWrite> tensors;
    for (const auto& [name, tensor] : original->tensors) tensors.push_back({name, tensor});
    const Status written =
        write_safetensors(folder / "copy.safetensors", tensors, {{"format", "pt"}, {"quote", "\"\\\n\u00e9"}});
    ASSERT_TRUE(written.ok()) << written.error().message();
    auto copy = open_safetensors(folder / "copy.safetensors");
    ASSERT_TRUE(copy.ok()) << why(copy);
    EXPECT_EQ(copy->metadata.at("quote"), "\"\\\n\u00e9");
    ASSERT_EQ(copy->tensors.size(), original->tensors.size());
    for (const auto& [name, tensor] : original->tensors) {
      ASSERT_NE(copy->find(name), nullptr) << name;
      EXPECT_TRUE(test::same(tensor, *copy->find(name))) << name;
      const auto address = reinterpret_cast<std::uintptr_t>(copy->find(name)->bytes.data());
      EXPECT_EQ(address % static_cast<std::uintptr_t>(tensor.type->bytes), 0u) << name;
    }
  }
}

TEST(SafetensorsWriter, NothingIsLeftOfAFileThatFails) {
  test::TemporaryFolder folder;
  const float values[2] = {1, 2};
  {
    SafetensorsWriter writer;
    writer.declare("a", *f32(), {4});
    ASSERT_TRUE(writer.begin(folder / "a.safetensors").ok());
    ASSERT_TRUE(writer.write(std::as_bytes(std::span(values))).ok());
    EXPECT_FALSE(writer.finish().ok());
  }
  SafetensorsWriter twice;
  twice.declare("a", *f32(), {1});
  twice.declare("a", *f32(), {1});
  EXPECT_FALSE(twice.begin(folder / "b.safetensors").ok());
  const Type* quantised = type_by_name("Q4_0");
  ASSERT_NE(quantised, nullptr);
  SafetensorsWriter blocks;
  blocks.declare("a", *quantised, {32});
  EXPECT_FALSE(blocks.begin(folder / "c.safetensors").ok());
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  EXPECT_FALSE(write_safetensors(folder / "no/such/folder.safetensors", {}).ok());
}

TEST(GgufWriter, RoundTripOfEveryGolden) {
  test::TemporaryFolder folder;
  for (const std::string& golden : test::goldens("gguf", ".gguf")) {
    SCOPED_TRACE(golden);
    auto original = open_gguf(golden);
    ASSERT_TRUE(original.ok()) << why(original);
    GgufWriter writer;
    for (const auto& [key, value] : original->metadata) writer.set(key, value);
    for (const auto& t : original->tensors) writer.declare(t.name, *t.tensor.type, t.tensor.shape);
    ASSERT_TRUE(writer.begin(folder / "copy.gguf").ok());
    for (const auto& t : original->tensors) ASSERT_TRUE(writer.write(t.tensor.bytes).ok());
    ASSERT_TRUE(writer.finish().ok());
    auto copy = open_gguf(folder / "copy.gguf");
    ASSERT_TRUE(copy.ok()) << why(copy);
    ASSERT_EQ(copy->metadata.size(), original->metadata.size());
    for (const auto& [key, value] : original->metadata) EXPECT_EQ(copy->find(key)->json(1000), value.json(1000)) << key;
    ASSERT_EQ(copy->tensors.size(), original->tensors.size());
    for (std::size_t i = 0; i < copy->tensors.size(); ++i) {
      EXPECT_EQ(copy->tensors[i].name, original->tensors[i].name);
      EXPECT_TRUE(test::same(copy->tensors[i].tensor, original->tensors[i].tensor));
    }
  }
}

TEST(GgufWriter, EveryKindOfValue) {
  test::TemporaryFolder folder;
  GgufWriter writer;
  writer.set_u32("u32", 4000000000u);
  writer.set_i32("i32", -5);
  writer.set_u64("u64", uint64_t{1} << 63);
  writer.set_f32("f32", 0.5f);
  writer.set_bool("yes", true);
  writer.set_text("text", "h\u00e9");
  writer.set_texts("texts", {"a", "", "ccc"});
  writer.set_i32s("i32s", {1, -2, 3});
  writer.set_f32s("f32s", {0.25f, -1.0f});
  writer.set_texts("none", {});
  // [[1, 2], [3]] of u8, which no writer of ours makes
  std::string nested;
  const auto put = [&](auto value) { nested.append(reinterpret_cast<const char*>(&value), sizeof value); };
  put(uint32_t{0}), put(uint64_t{2}), put(uint8_t{1}), put(uint8_t{2}), put(uint32_t{0}), put(uint64_t{1}),
      put(uint8_t{3});
  writer.set("nested", GgufValue{GgufType::kArray, test::bytes_of(nested), GgufType::kArray, 2});
  ASSERT_TRUE(writer.begin(folder / "keys.gguf").ok());
  ASSERT_TRUE(writer.finish().ok());
  auto file = open_gguf(folder / "keys.gguf");
  ASSERT_TRUE(file.ok()) << why(file);
  EXPECT_EQ(file->find("u32")->integer(), 4000000000);
  EXPECT_EQ(file->find("i32")->integer(), -5);
  EXPECT_EQ(file->find("u64")->integer(), std::nullopt);
  EXPECT_EQ(file->find("u64")->json(1), uint64_t{1} << 63);
  EXPECT_EQ(file->find("f32")->number(), 0.5);
  EXPECT_EQ(file->find("f32")->integer(), std::nullopt);
  EXPECT_EQ(file->find("yes")->boolean(), true);
  EXPECT_EQ(file->find("text")->text(), "h\u00e9");
  EXPECT_EQ(file->find("text")->number(), std::nullopt);
  EXPECT_EQ(file->find("texts")->texts(), (std::vector<std::string_view>{"a", "", "ccc"}));
  EXPECT_EQ(file->find("i32s")->integers(), (std::vector<int64_t>{1, -2, 3}));
  EXPECT_EQ(file->find("f32s")->numbers(), (std::vector<double>{0.25, -1.0}));
  EXPECT_EQ(file->find("f32s")->integers(), std::nullopt);
  EXPECT_TRUE(file->find("none")->texts()->empty());
  EXPECT_EQ(file->find("nested")->count, 2u);
  EXPECT_EQ(file->find("nested")->bytes.size(), nested.size());
  EXPECT_EQ(file->find("nested")->integers(), std::nullopt);
}

TEST(GgufWriter, TooManyOrTooFewBytesAreMistakes) {
  test::TemporaryFolder folder;
  const float values[4] = {1, 2, 3, 4};
  GgufWriter more;
  more.declare("a", *f32(), {2});
  ASSERT_TRUE(more.begin(folder / "a.gguf").ok());
  EXPECT_FALSE(more.write(std::as_bytes(std::span(values))).ok());
  GgufWriter fewer;
  fewer.declare("a", *f32(), {8});
  ASSERT_TRUE(fewer.begin(folder / "a.gguf").ok());
  EXPECT_TRUE(fewer.write(std::as_bytes(std::span(values))).ok());
  EXPECT_FALSE(fewer.finish().ok());
  EXPECT_FALSE(std::filesystem::exists(folder / "a.gguf"));
}

// A file of the older kind, k_b and v_b in two dimensions beside or without kv_b, made from a 3-D golden.
TEST(GgufWriter, SplitMlaInTwoDimensionsOpensAsInThree) {
  const std::string golden = test::find_golden("gguf/v2-lite-split.Q8_0.gguf");
  ASSERT_FALSE(golden.empty());
  test::TemporaryFolder folder;
  auto original = open_gguf(golden);
  ASSERT_TRUE(original.ok()) << why(original);
  GgufWriter writer;
  for (const auto& [key, value] : original->metadata) writer.set(key, value);
  int flattened = 0;
  for (const auto& t : original->tensors) {
    auto shape = t.tensor.shape;
    if (t.name.ends_with("attn_k_b.weight") || t.name.ends_with("attn_v_b.weight")) {
      ASSERT_EQ(shape.size(), 3u);
      shape = {shape[0] * shape[1], shape[2]};
      ++flattened;
    }
    writer.declare(t.name, *t.tensor.type, shape);
  }
  EXPECT_EQ(flattened, 6);
  ASSERT_TRUE(writer.begin(folder / "flat.gguf").ok());
  for (const auto& t : original->tensors) ASSERT_TRUE(writer.write(t.tensor.bytes).ok());
  ASSERT_TRUE(writer.finish().ok());
  auto flat = Checkpoint::open(folder / "flat.gguf"), deep = Checkpoint::open(golden);
  ASSERT_TRUE(flat.ok()) << why(flat);
  ASSERT_TRUE(deep.ok()) << why(deep);
  ASSERT_EQ((*flat)->tensors().size(), (*deep)->tensors().size());
  for (const auto& [name, tensor] : (*deep)->tensors()) EXPECT_TRUE(test::same(tensor, *(*flat)->find(name))) << name;
}

}  // namespace
}  // namespace sonde
