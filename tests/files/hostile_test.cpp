// Files that lie: an error each time, never a crash, never more memory than the file justifies.
#include <fmt/format.h>
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <nlohmann/json.hpp>

#include "files/folder.h"
#include "files/gguf.h"
#include "files/gguf_config.h"
#include "files/gguf_tensors.h"
#include "support.h"

namespace {
std::atomic<std::size_t> live{0}, peak{0};

void* counted(std::size_t n) {
  void* p = std::malloc(n > 0 ? n : 1);
  if (p == nullptr) throw std::bad_alloc();
  const std::size_t now = live += ::malloc_usable_size(p);
  for (std::size_t seen = peak; now > seen && !peak.compare_exchange_weak(seen, now);) {}
  return p;
}
void uncounted(void* p) {
  if (p != nullptr) live -= ::malloc_usable_size(p);
  std::free(p);
}
}  // namespace

void* operator new(std::size_t n) { return counted(n); }
void* operator new[](std::size_t n) { return counted(n); }
void operator delete(void* p) noexcept { uncounted(p); }
void operator delete[](void* p) noexcept { uncounted(p); }
void operator delete(void* p, std::size_t) noexcept { uncounted(p); }
void operator delete[](void* p, std::size_t) noexcept { uncounted(p); }

namespace sonde {
namespace {

using test::bytes_of;
using test::why;

// A map node with a name, a shape and a view is 200 bytes; the shortest entry in a file is 32.
constexpr std::size_t kPerByte = 48, kFixed = 256 * 1024;

template <class F>
auto bounded(std::string_view file, F parse) {
  const std::size_t before = live;
  peak = before;
  auto result = parse(bytes_of(file), "hostile");
  EXPECT_LE(peak - before, kPerByte * file.size() + kFixed);
  return result;
}

// Everything that a GGUF file goes through when it is opened.
Result<std::size_t> whole_gguf(std::span<const std::byte> bytes, const std::string& where) {
  SONDE_TRY(const Gguf file, parse_gguf(bytes, where));
  SONDE_TRY(const auto config, gguf_config(file, where));
  SONDE_TRY(const auto vocabulary, gguf_vocabulary(file, where));
  std::map<std::string, Tensor, std::less<>> tensors;
  SONDE_CHECK(add_gguf_tensors(file, config, where, tensors));
  for (const auto& [name, tensor] : tensors) {
    EXPECT_EQ(tensor.bytes.size(), static_cast<std::size_t>(tensor.type->row_bytes(tensor.count())));
  }
  return tensors.size();
}

class Bytes {
 public:
  template <class T>
  Bytes& put(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Bytes& text(std::string_view s) { return put<uint64_t>(s.size()).raw(s); }
  Bytes& raw(std::string_view s) {
    text_ += s;
    return *this;
  }
  Bytes& pad(std::size_t to) {
    text_.resize((text_.size() + to - 1) / to * to, '\0');
    return *this;
  }
  const std::string& str() const { return text_; }

 private:
  std::string text_;
};

Bytes gguf(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
  return Bytes().raw("GGUF").put(version).put(tensors).put(keys);
}

Bytes& tensor(Bytes& b, std::string_view name, std::vector<uint64_t> dims, uint32_t type, uint64_t offset) {
  b.text(name).put<uint32_t>(static_cast<uint32_t>(dims.size()));
  for (const uint64_t d : dims) b.put(d);
  return b.put(type).put(offset);
}

std::string one_tensor(std::string_view name, std::vector<uint64_t> dims, uint32_t type, uint64_t offset,
                       std::size_t data) {
  Bytes b = gguf(1, 0);
  tensor(b, name, std::move(dims), type, offset).pad(32);
  return b.raw(std::string(data, 'x')).str();
}

std::string message_of(const std::string& file) {
  const auto result = bounded(file, parse_gguf);
  return result.ok() ? "" : result.error().message();
}

TEST(HostileGguf, AValidFileForComparison) {
  EXPECT_EQ(message_of(one_tensor("a", {4, 2}, 0, 0, 32)), "");
  EXPECT_EQ(message_of(gguf(0, 0).str()), "");
}

TEST(HostileGguf, HeadersThatLie) {
  EXPECT_NE(message_of("").find("not a GGUF"), std::string::npos);
  EXPECT_NE(message_of("GGUX").find("not a GGUF"), std::string::npos);
  EXPECT_NE(message_of(gguf(0, 0, 1).str()).find("version 1"), std::string::npos);
  EXPECT_NE(message_of(gguf(0, 0, 2).str()).find("version 2"), std::string::npos);
  EXPECT_NE(message_of(gguf(0, 0, 0x03000000).str()).find("big-endian"), std::string::npos);
  for (const uint64_t huge : {uint64_t{1} << 20, uint64_t{1} << 40, UINT64_MAX}) {
    EXPECT_NE(message_of(gguf(huge, 0).raw(std::string(64, '\0')).str()), "");
    EXPECT_NE(message_of(gguf(0, huge).raw(std::string(64, '\0')).str()), "");
  }
}

TEST(HostileGguf, MetadataThatLies) {
  for (const uint64_t huge : {uint64_t{100}, uint64_t{1} << 40, UINT64_MAX, UINT64_MAX / 4 + 1}) {
    for (const uint32_t element : {0u, 4u, 6u, 8u, 9u, 10u}) {
      EXPECT_NE(message_of(gguf(0, 1).text("k").put<uint32_t>(9).put(element).put(huge).raw("0123456789abcdef").str()),
                "");
    }
    EXPECT_NE(message_of(gguf(0, 1).text("k").put<uint32_t>(8).put(huge).raw("0123456789").str()), "");
    EXPECT_NE(message_of(gguf(0, 1).put(huge).raw("key").put<uint32_t>(8).text("v").str()), "");
  }
  EXPECT_NE(message_of(gguf(0, 1).text("k").put<uint32_t>(13).put<uint32_t>(1).str()), "");
  EXPECT_NE(message_of(gguf(0, 1).text("\xFF\xFE").put<uint32_t>(4).put<uint32_t>(1).str()).find("UTF-8"),
            std::string::npos);
  EXPECT_NE(
      message_of(
          gguf(0, 2).text("k").put<uint32_t>(4).put<uint32_t>(1).text("k").put<uint32_t>(4).put<uint32_t>(1).str())
          .find("twice"),
      std::string::npos);
  for (const uint32_t alignment : {0u, 3u, 33u, 0x80000000u}) {
    EXPECT_NE(message_of(gguf(0, 1).text("general.alignment").put<uint32_t>(4).put(alignment).str()).find("alignment"),
              std::string::npos);
  }
  EXPECT_EQ(message_of(gguf(0, 1).text("general.alignment").put<uint32_t>(4).put<uint32_t>(64).str()), "");
  Bytes nested = gguf(0, 1).text("k").put<uint32_t>(9);
  for (int i = 0; i < 1000; ++i) nested.put<uint32_t>(9).put<uint64_t>(1);
  EXPECT_NE(message_of(nested.put<uint32_t>(0).put<uint64_t>(0).str()).find("nested"), std::string::npos);
}

TEST(HostileGguf, TensorsThatLie) {
  EXPECT_NE(message_of(one_tensor("a", {4, 2}, 0, 32, 32)).find("beyond"), std::string::npos);
  EXPECT_NE(message_of(one_tensor("a", {4, 2}, 0, 16, 64)).find("aligned"), std::string::npos);
  EXPECT_NE(message_of(one_tensor("a", {4, 2}, 0, UINT64_MAX - 31, 64)).find("beyond"), std::string::npos);
  EXPECT_NE(message_of(one_tensor("a", {4, 2, 1, 1, 1}, 0, 0, 64)).find("dimensions"), std::string::npos);
  EXPECT_NE(message_of(one_tensor("a", {0, 2}, 0, 0, 64)).find("dimension"), std::string::npos);
  EXPECT_NE(message_of(one_tensor("a", {UINT64_MAX, 2}, 0, 0, 64)).find("dimension"), std::string::npos);
  EXPECT_NE(message_of(one_tensor("a", {uint64_t{1} << 32, uint64_t{1} << 32}, 0, 0, 64)).find("impossible"),
            std::string::npos);
  EXPECT_NE(message_of(one_tensor("a", {uint64_t{1} << 62}, 0, 0, 64)).find("impossible"), std::string::npos);
  EXPECT_NE(message_of(one_tensor("a", {33, 2}, 8, 0, 256)).find("blocks"), std::string::npos);
  EXPECT_NE(message_of(one_tensor("", {4}, 0, 0, 64)), "");
  EXPECT_NE(message_of(one_tensor("\xC3(", {4}, 0, 0, 64)).find("UTF-8"), std::string::npos);
  EXPECT_NE(message_of(one_tensor(std::string(5000, 'n'), {4}, 0, 0, 64)), "");
  for (const uint32_t type : {4u, 5u, 36u, 999u, UINT32_MAX}) {
    const std::string message = message_of(one_tensor("blk.0.attn_q.weight", {256}, type, 0, 4096));
    EXPECT_NE(message.find(std::to_string(type)), std::string::npos) << message;
    EXPECT_NE(message.find("blk.0.attn_q.weight"), std::string::npos) << message;
  }
  Bytes twice = gguf(2, 0);
  tensor(tensor(twice, "a", {8}, 0, 0), "a", {8}, 0, 32).pad(32).raw(std::string(64, 'x'));
  EXPECT_NE(message_of(twice.str()).find("twice"), std::string::npos);
  Bytes overlapping = gguf(2, 0);
  tensor(tensor(overlapping, "a", {16}, 0, 0), "b", {8}, 0, 32).pad(32).raw(std::string(64, 'x'));
  EXPECT_NE(message_of(overlapping.str()).find("overlap"), std::string::npos);
}

TEST(HostileGguf, CutsAndFlips) {
  const std::string whole = test::read_file(test::find_golden("gguf/llama.Q5_1.gguf"));
  ASSERT_GT(whole.size(), 10000u);
  ASSERT_TRUE(whole_gguf(bytes_of(whole), "whole").ok());
  for (std::size_t n = 0; n < whole.size(); n += 64) {
    EXPECT_FALSE(bounded(std::string_view(whole).substr(0, n), whole_gguf).ok()) << n;
  }
  uint64_t random = 1;
  for (int i = 0; i < 3000; ++i) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    std::string bent = whole;
    bent[(random >> 20) % 20000 % whole.size()] ^=
        static_cast<char>(1 << (random >> 60 & 7));  // headers lie in the first 20 KB
    (void)bounded(bent, whole_gguf);
  }
}

TEST(HostileGguf, ExpertsAndHeadsThatDoNotFit) {
  nlohmann::json config = {{"n_routed_experts", 4}, {"num_attention_heads", 3}};
  Gguf file;
  const std::string data(4096, 'x');
  std::map<std::string, Tensor, std::less<>> out;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    file.tensors = {
        {name,
         Tensor{f32(), shape, bytes_of(data).first(static_cast<std::size_t>(Tensor{f32(), shape, {}}.count()) * 4)}}};
    out.clear();
    return add_gguf_tensors(file, config, "file", out);
  };
  EXPECT_TRUE(add("blk.0.ffn_up_exps.weight", {4, 2, 8}).ok());
  EXPECT_EQ(out.size(), 4u);
  EXPECT_FALSE(add("blk.0.ffn_up_exps.weight", {5, 2, 8}).ok());
  EXPECT_FALSE(add("blk.0.ffn_up_exps.weight", {4, 16}).ok());
  EXPECT_TRUE(add("blk.0.attn_k_b.weight", {12, 8}).ok());
  EXPECT_EQ(out.begin()->second.shape, (std::vector<int64_t>{3, 4, 8}));
  EXPECT_FALSE(add("blk.0.attn_k_b.weight", {13, 8}).ok());
  EXPECT_FALSE(add("blk.0.attn_v_b.weight", {4, 2, 8}).ok());
}

// --- safetensors ---

std::string safetensors(const std::string& header, std::size_t data, std::optional<uint64_t> length = std::nullopt) {
  return Bytes().put<uint64_t>(length.value_or(header.size())).raw(header).raw(std::string(data, 'x')).str();
}

std::string error_of(const std::string& file) {
  const auto result = bounded(file, parse_safetensors);
  return result.ok() ? "" : result.error().message();
}

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return fmt::format(R"({{"dtype":"{}","shape":{},"data_offsets":{}}})", dtype, shape, offsets);
}

TEST(HostileSafetensors, HeadersThatLie) {
  EXPECT_EQ(error_of(safetensors("{}", 0)), "");
  EXPECT_EQ(error_of(safetensors(R"({"__metadata__":{"format":"pt"}}   )", 0)), "");
  for (const std::string& file :
       {std::string(), std::string("1234567"), safetensors("{}", 0, 3), safetensors("{}", 0, UINT64_MAX),
        safetensors("{}", 0, uint64_t{1} << 40), safetensors("", 0), safetensors(" {}", 0), safetensors("[]", 0),
        safetensors("{", 0), safetensors("{}x", 0), safetensors("{\"\xFF\":1}", 0), safetensors("{}", 1),
        safetensors(R"({"__metadata__":{"a":1}})", 0), safetensors(R"({"__metadata__":[]})", 0)}) {
    EXPECT_NE(error_of(file), "");
  }
  EXPECT_NE(error_of(safetensors(std::string(100000, '['), 0)), "");
  EXPECT_NE(error_of(safetensors("{\"a\":" + std::string(100000, '['), 0)).find("deep"), std::string::npos);
}

TEST(HostileSafetensors, EntriesThatLie) {
  const auto one = [](const std::string& e, std::size_t data) {
    return error_of(safetensors(fmt::format("{{\"a\":{}}}", e), data));
  };
  EXPECT_EQ(one(entry("F32", "[2,2]", "[0,16]"), 16), "");
  EXPECT_EQ(one(entry("F32", "[]", "[0,4]"), 4), "");
  EXPECT_EQ(one(entry("F32", "[0,5]", "[0,0]"), 0), "");
  for (const char* dtype : {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E8M0", "I8", "U8", "I32", "I64"}) {
    const Type* type = type_by_safetensors(dtype);
    ASSERT_NE(type, nullptr) << dtype;
    EXPECT_EQ(one(entry(dtype, "[3]", "[0," + std::to_string(3 * type->bytes) + "]"),
                  3 * static_cast<std::size_t>(type->bytes)),
              "");
  }
  EXPECT_NE(one(entry("Q99", "[2]", "[0,8]"), 8).find("Q99"), std::string::npos);
  for (const char* shape : {"[2,3]", "[-2,-2]", "[2.0,2]", "[4294967296,4294967296]", "[18446744073709551616]",
                            "[9223372036854775807]", "4", "[\"4\"]", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,4]", "null"}) {
    EXPECT_NE(one(entry("F32", shape, "[0,16]"), 16), "") << shape;
  }
  for (const char* offsets : {"[0,17]", "[1,17]", "[16,0]", "[-16,0]", "[0]", "[0,16,16]", "[0,18446744073709551615]",
                              "[0.0,16]", "{}", "[4,20]"}) {
    EXPECT_NE(one(entry("F32", "[2,2]", offsets), 16), "") << offsets;
  }
  EXPECT_NE(one("[]", 0), "");
  EXPECT_NE(one("{}", 0), "");
  const std::string a = fmt::format("\"a\":{}", entry("F32", "[2]", "[0,8]"));
  EXPECT_NE(error_of(safetensors(fmt::format("{{{},{}}}", a, a), 8)).find("twice"), std::string::npos);
  EXPECT_NE(error_of(safetensors(fmt::format("{{{},\"b\":{}}}", a, entry("F32", "[2]", "[4,12]")), 12)).find("overlap"),
            std::string::npos);
  EXPECT_NE(error_of(safetensors(fmt::format("{{{},\"b\":{}}}", a, entry("F32", "[2]", "[12,20]")), 20)).find("gap"),
            std::string::npos);
}

TEST(HostileSafetensors, CutsAndFlips) {
  const std::string whole = test::read_file(test::find_golden("models/v3-fp8-ue8m0/model.safetensors"));
  ASSERT_TRUE(parse_safetensors(bytes_of(whole), "whole").ok());
  for (std::size_t n = 0; n < whole.size(); n += std::max<std::size_t>(64, whole.size() / 512 / 64 * 64)) {
    EXPECT_FALSE(bounded(std::string_view(whole).substr(0, n), parse_safetensors).ok()) << n;
  }
  uint64_t random = 7;
  for (int i = 0; i < 1500; ++i) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    std::string bent = whole.substr(0, 8 + 4096);
    bent[(random >> 20) % bent.size()] ^= static_cast<char>(1 << (random >> 60 & 7));
    (void)bounded(bent, parse_safetensors);
  }
}

// --- folders ---

TEST(HostileFolders, AnIndexCannotLeaveTheFolder) {
  for (const char* file :
       {"../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", ".", "", "a\\\\b", "a\\u0000b"}) {
    const auto index = parse_safetensors_index(fmt::format(R"({{"weight_map":{{"a":"{}"}}}})", file), "index");
    EXPECT_FALSE(index.ok()) << file;
  }
  EXPECT_FALSE(parse_safetensors_index("{}", "index").ok());
  EXPECT_FALSE(parse_safetensors_index("[]", "index").ok());
  EXPECT_FALSE(parse_safetensors_index(R"({"weight_map":{"a":1}})", "index").ok());
  EXPECT_TRUE(parse_safetensors_index(R"({"weight_map":{"a":"model-1.safetensors"}})", "index").ok());
}

TEST(HostileFolders, WhatIsMissingIsNamed) {
  test::TemporaryFolder folder;
  EXPECT_FALSE(Checkpoint::open(folder.path()).ok());
  EXPECT_FALSE(Checkpoint::open(folder / "nothing").ok());
  EXPECT_FALSE(Checkpoint::open("").ok());
  test::write_file(folder / "config.json", "{\"model_type\":\"llama\"}");
  test::write_file(folder / "model.safetensors.index.json", R"({"weight_map":{"a":"one.safetensors"}})");
  auto missing = Checkpoint::open(folder.path());
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.error().message().find("one.safetensors"), std::string::npos);
  test::write_file(folder / "one.safetensors",
                   safetensors(fmt::format("{{\"b\":{}}}", entry("F32", "[1]", "[0,4]")), 4));
  auto other = Checkpoint::open(folder.path());
  ASSERT_FALSE(other.ok());
  EXPECT_NE(other.error().message().find("missing"), std::string::npos);
  test::write_file(folder / "one.safetensors",
                   safetensors(fmt::format("{{\"a\":{}}}", entry("F32", "[1]", "[0,4]")), 4));
  EXPECT_TRUE(Checkpoint::open(folder.path()).ok());
  test::write_file(folder / "config.json", "[1]");
  EXPECT_FALSE(Checkpoint::open(folder.path()).ok());
  test::write_file(folder / "config.json", std::string(1000, '[') + std::string(1000, ']'));
  EXPECT_FALSE(Checkpoint::open(folder.path()).ok());
}

}  // namespace
}  // namespace sonde
