// Packed weights in a cache file: the second start packs nothing and computes the same bits.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "kernels/pack.h"
#include "model/packed_weights.h"
#include "support/assets.h"
#include "support/runner.h"

namespace sonde::test {
namespace {

namespace fs = std::filesystem;

class Packed : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    std::string name = fs::temp_directory_path() / "sonde-packed-XXXXXX";
    folder_ = mkdtemp(name.data());
    cache_ = (folder_ / "cache").string();
    source_ = (folder_ / "model.gguf").string();
    fs::copy_file(golden("gguf/" + GetParam()), source_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  ModelOptions options() {
    return {.exact = false,
            .threads = 2,
            .notice = [this](const std::string& line) { notices_.push_back(line); },
            .cache = cache_,
            .cache_least = 0};
  }
  Result<std::unique_ptr<Model>> load(const ModelOptions& options) {
    notices_.clear();
    SONDE_TRY(std::shared_ptr<const Checkpoint> checkpoint, Checkpoint::open(source_));
    file_ = packed_path(*checkpoint, cache_);
    return Model::load(checkpoint, options);
  }
  // Prompt and one token in the absorbed form.
  static AlignedVector<float> logits(Model& model) {
    Runner runner(model);
    std::vector<int32_t> ids;
    for (int i = 0; i < 20; ++i) ids.push_back(int32_t((i * 7919 + 13) % model.config().vocab_size));
    AlignedVector<float> all = runner.feed(ids).logits;
    const auto more = runner.feed(std::span(ids).first(1), true).logits;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  // What progress tells while the model is loaded: ascending, of the whole file, all of it at the end.
  void expect_progress(ModelOptions with, std::size_t least_calls) {
    std::vector<int64_t> done;
    with.progress = [&](int64_t bytes, int64_t total) {
      EXPECT_EQ(total, int64_t(fs::file_size(source_)));
      done.push_back(bytes);
    };
    ASSERT_TRUE(load(with).ok());
    ASSERT_GE(done.size(), least_calls);
    EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
    EXPECT_EQ(done.back(), int64_t(fs::file_size(source_)));
    if (done.size() > 1) { EXPECT_LT(done[done.size() - 2], done.back()); }
  }
  CacheFile::Key key() const { return packed_key(*Checkpoint::open(source_).value()); }
  // Loads with the cache as it is now: it must be made again, give the right bits, and be there afterwards.
  void expect_made_again(const AlignedVector<float>& want) {
    auto model = load(options());
    ASSERT_TRUE(model.ok()) << model.error().message();
    EXPECT_EQ((*model)->packed().made, (*model)->packed().matrices);
    EXPECT_EQ((*model)->packed().file, file_);
    EXPECT_EQ(logits(**model), want);
    auto again = load(options());
    ASSERT_TRUE(again.ok()) << again.error().message();
    EXPECT_EQ((*again)->packed().made, 0);
    EXPECT_EQ(logits(**again), want);
  }

  fs::path folder_;
  std::string cache_, source_, file_;
  std::vector<std::string> notices_;
};

TEST_P(Packed, TheSecondStartPacksNothingAndGivesTheSameBits) {
  ModelOptions in_memory = options();
  in_memory.cache = "";
  auto plain = load(in_memory);
  ASSERT_TRUE(plain.ok()) << plain.error().message();
  const auto want = logits(**plain);
  const Model::Packed packed = (*plain)->packed();
  EXPECT_GT(packed.matrices, 0);
  EXPECT_EQ(packed.made, packed.matrices);
  EXPECT_EQ(packed.file, "");
  EXPECT_TRUE(notices_.empty());
  EXPECT_FALSE(fs::exists(cache_));

  expect_made_again(want);
  auto kept = load(options());
  ASSERT_TRUE(kept.ok());
  EXPECT_EQ((*kept)->packed().matrices, packed.matrices);
  EXPECT_EQ((*kept)->packed().bytes, packed.bytes);
  EXPECT_TRUE(notices_.empty());
  // Counted once: beside the model as mapped, or in it as owned.
  EXPECT_EQ((*kept)->owned_bytes() + packed.bytes, (*plain)->owned_bytes());
  EXPECT_EQ((*kept)->mapped_bytes() - packed.bytes, (*plain)->mapped_bytes());
  EXPECT_EQ(std::distance(fs::directory_iterator(cache_), fs::directory_iterator()), 1);

  ModelOptions verify = options();
  verify.verify_cache = true;
  auto verified = load(verify);
  EXPECT_TRUE(verified.ok()) << verified.error().message();
}

TEST_P(Packed, ProgressIsTold) {
  expect_progress(options(), 10);  // packs
  expect_progress(options(), 1);   // finds all in the cache
  ModelOptions exact = options();
  exact.exact = true;
  expect_progress(exact, 10);
}

TEST_P(Packed, WhatIsNotThisModelsIsMadeAgain) {
  auto first = load(options());
  ASSERT_TRUE(first.ok()) << first.error().message();
  ASSERT_TRUE(fs::exists(file_));
  const auto want = logits(**first);
  const auto size = fs::file_size(file_);
  const auto change = [&](std::streamoff at, char with) {
    std::fstream(file_, std::ios::binary | std::ios::in | std::ios::out).seekp(at).put(with);
  };

  fs::resize_file(file_, size / 2);
  expect_made_again(want);
  change(20, '\x7f');
  expect_made_again(want);
  std::ofstream(file_, std::ios::trunc) << std::string(5000, '\0');  // as a half-written one begins
  expect_made_again(want);

  // Of another layout, the sum of its header right.
  std::string header(120, '\0');
  std::ifstream(file_, std::ios::binary).read(header.data(), 120);
  ++header[8];
  const Digest sum = sha256(std::string_view(header).substr(0, 88));
  std::memcpy(header.data() + 88, sum.data(), sum.size());
  std::fstream(file_, std::ios::binary | std::ios::in | std::ios::out).write(header.data(), 120);
  EXPECT_TRUE(CacheFile::find(file_, {kPackedLayout + 1, key().source}));
  expect_made_again(want);

  // A sound file of this source that tells of other matrices.
  auto checkpoint = Checkpoint::open(source_);
  ASSERT_TRUE(checkpoint.ok());
  auto counted = CacheFile::create(file_, packed_key(**checkpoint), 4096);
  ASSERT_TRUE(counted.ok());
  ASSERT_TRUE((*counted)->write(std::vector<std::byte>(4096)).ok());
  ASSERT_TRUE((*counted)->commit(1, sha256("other")).ok());
  expect_made_again(want);
}

// A source that differs in one thing alone, its weights the same: by each its cache file is another's.
TEST_P(Packed, OfASourceThatHasChangedIsMadeAgain) {
  auto first = load(options());
  ASSERT_TRUE(first.ok()) << first.error().message();
  const auto want = logits(**first);
  const auto time = fs::last_write_time(source_);
  CacheFile::Key before = key();
  const auto expect_another = [&] {
    EXPECT_NE(key().source, before.source);
    expect_made_again(want);
    before = key();
  };

  fs::last_write_time(source_, time + std::chrono::nanoseconds(1000));
  expect_another();
  fs::last_write_time(source_, time);
  expect_another();

  const auto size = fs::file_size(source_);
  std::ofstream(source_, std::ios::binary | std::ios::app) << std::string(32, '\0');
  fs::last_write_time(source_, time);
  expect_another();
  fs::resize_file(source_, size);
  fs::last_write_time(source_, time);
  expect_another();

  std::string bytes(4096, '\0');
  std::ifstream(source_, std::ios::binary).read(bytes.data(), std::streamsize(bytes.size()));
  const std::string name = "general.name";
  const std::size_t at = bytes.find(name);
  ASSERT_NE(at, std::string::npos);
  const std::size_t letter = at + name.size() + 4 + 8;  // behind the value's type and length
  std::fstream file(source_, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(std::streamoff(letter)).put(char(bytes[letter] ^ 1));
  file.close();
  fs::last_write_time(source_, time);
  EXPECT_EQ(fs::file_size(source_), size);
  expect_another();
}

TEST_P(Packed, AChangedByteIsFoundWhenAskedFor) {
  ASSERT_TRUE(load(options()).ok());
  ModelOptions verify = options();
  verify.verify_cache = true;
  const auto refusal = [&] {
    const auto verified = load(verify);
    return verified.ok() ? std::optional<Code>() : verified.error().code;
  };
  const auto size = fs::file_size(file_);
  const auto flip = [&](uintmax_t at) {
    std::fstream file(file_, std::ios::binary | std::ios::in | std::ios::out);
    const int byte = file.seekg(std::streamoff(at)).get();
    file.seekp(std::streamoff(at)).put(char(byte ^ 0x55));
  };
  for (const uintmax_t at : {uintmax_t{4136}, size / 2, size - 1}) {
    flip(at);
    EXPECT_EQ(refusal(), Code::kCorrupt) << at;
    flip(at);
  }
  for (const uintmax_t at : {70, 200, 4095}) {  // of the header, and behind it in its page
    flip(at);
    EXPECT_EQ(refusal(), Code::kNotFound) << at;
    flip(at);
  }
  EXPECT_EQ(refusal(), std::nullopt);
  fs::remove(file_);
  EXPECT_EQ(refusal(), Code::kNotFound);
}

TEST_P(Packed, WithoutRoomItIsMemoryAndOneNotice) {
  std::ofstream(folder_ / "file") << "x";
  cache_ = (folder_ / "file" / "cache").string();
  auto model = load(options());
  ASSERT_TRUE(model.ok()) << model.error().message();
  EXPECT_EQ((*model)->packed().file, "");
  EXPECT_EQ((*model)->packed().made, (*model)->packed().matrices);
  EXPECT_EQ(notices_.size(), 1u);
}

TEST_P(Packed, SmallModelsAndTheExactPathLeaveTheCacheAlone) {
  ModelOptions small = options();
  small.cache_least = ModelOptions{}.cache_least;
  ASSERT_TRUE(load(small).ok());
  ModelOptions exact = options();
  exact.exact = true;
  auto model = load(exact);
  ASSERT_TRUE(model.ok());
  EXPECT_EQ((*model)->packed().bytes, 0);
  EXPECT_FALSE(fs::exists(cache_));
  EXPECT_TRUE(notices_.empty());
}

INSTANTIATE_TEST_SUITE_P(Files, Packed,
                         testing::Values("v2-lite-joined.Q8_0.gguf", "v2-lite-split.Q8_0.gguf", "qwen3-wide.Q6_K.gguf"),
                         [](const auto& file) {
                           std::string name = file.param;
                           std::erase_if(name, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); });
                           return name;
                         });

// Weights of FP8 stay as they are stored, but a scale of a block has to be a number, as those of packed types.
TEST(Fp8Scales, ThatAreNotFiniteAreRefused) {
  const std::string from = find_golden("models/v3-fp8");
  if (from.empty()) GTEST_SKIP() << "models/v3-fp8 is not at hand";
  std::string name = fs::temp_directory_path() / "sonde-scales-XXXXXX";
  const fs::path folder = mkdtemp(name.data());
  fs::copy(from, folder, fs::copy_options::recursive);
  const std::string tensor = "model.layers.1.self_attn.o_proj.weight";
  const auto load = [&] { return Model::load(Checkpoint::open(folder.string()).value(), {.exact = false, .threads = 1}); };
  EXPECT_TRUE(load().ok());

  std::fstream file(folder / "model.safetensors", std::ios::binary | std::ios::in | std::ios::out);
  uint64_t length = 0;
  file.read(reinterpret_cast<char*>(&length), sizeof length);
  std::string header(length, ' ');
  file.read(header.data(), std::streamsize(length));
  const auto place = nlohmann::json::parse(header)[tensor + "_scale_inv"]["data_offsets"][0].get<uint64_t>();
  const float not_finite = std::numeric_limits<float>::infinity();
  file.seekp(std::streamoff(8 + length + place)).write(reinterpret_cast<const char*>(&not_finite), sizeof not_finite);
  file.close();
  const auto refused = load();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::kCorrupt);
  EXPECT_NE(refused.error().message().find(tensor), std::string::npos) << refused.error().message();
  fs::remove_all(folder);
}

// Gate and up, which follow one another, are read together: never at the same place of a page.
TEST(PackedPlaces, NeighboursStandHalfAPageApart) {
  constexpr int64_t kCols = 96;
  const std::vector<int64_t> sizes = {16, 1, 32, 48, 21, 85, 16};
  const auto add_all = [&](PackedWeights& to) {
    std::vector<const std::byte*> places;
    for (const int64_t rows : sizes) {
      const auto fill = [&](float* values) { std::fill_n(values, rows * kCols, 0.5F); };
      const Result<Matrix> m = to.add_values(rows, kCols, rows % 32 == 0, fill);
      EXPECT_TRUE(m.ok());
      if (m.ok()) places.push_back(m->packed ? m->packed : m->data);
    }
    return places;
  };
  const auto counted = PackedWeights::count();
  add_all(*counted);
  const auto packed = PackedWeights::in_memory(*counted, 1);
  ASSERT_TRUE(packed.ok());
  const std::vector<const std::byte*> places = add_all(**packed);
  ASSERT_EQ(places.size(), sizes.size());
  EXPECT_EQ((*packed)->bytes(), counted->bytes());
  for (std::size_t i = 1; i < places.size(); ++i) EXPECT_EQ((places[i] - places[i - 1]) % 4096, 2048) << i;
}

// Header, matrices in strips and of halves, what fills the room behind each: no byte is passed over.
TEST(PackedFile, EveryByteIsCompared) {
  std::string name = fs::temp_directory_path() / "sonde-bytes-XXXXXX";
  const fs::path folder = mkdtemp(name.data());
  const std::string path = folder / "a.packed";
  const CacheFile::Key key{kPackedLayout, sha256("source")};
  const auto add_all = [&](PackedWeights& to) -> Status {
    for (const bool to_bytes : {true, false}) {
      const auto fill = [](float* values) {
        for (int i = 0; i < 16 * 96; ++i) values[i] = float(i % 13 + 1);
      };
      SONDE_CHECK(to.add_values(16, 96, to_bytes, fill));
    }
    return to.finish();
  };
  const auto counted = PackedWeights::count();
  ASSERT_TRUE(add_all(*counted).ok());
  {
    auto packed = PackedWeights::in_file(*counted, CacheFile::create(path, key, counted->bytes()).value(), 1);
    ASSERT_TRUE(add_all(*packed).ok());
  }
  const auto verify = [&] {
    auto file = CacheFile::find(path, key);
    if (!file) return Status(Error{Code::kNotFound, "", "", "", "", ""});
    return add_all(*PackedWeights::compare(std::move(file), 1));
  };
  ASSERT_TRUE(verify().ok());

  const std::size_t size = fs::file_size(path), header = 4096;
  ASSERT_EQ(size, header + 2048 + 6144);  // 1632 bytes in strips, 3072 of halves
  std::string whole(size, '\0');
  std::ifstream(path, std::ios::binary).read(whole.data(), std::streamsize(size));
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  const auto put = [&](std::size_t at, char byte) { file.seekp(std::streamoff(at)).put(byte).flush(); };
  for (std::size_t at = 0; at < size; at += at < 120 ? 1 : 7) {
    put(at, char(whole[at] ^ 1));
    const Status verified = verify();
    ASSERT_FALSE(verified.ok()) << at;
    EXPECT_EQ(verified.error().code, at < header ? Code::kNotFound : Code::kCorrupt) << at;
    put(at, whole[at]);
  }
  EXPECT_TRUE(verify().ok());
  fs::remove_all(folder);
}

}  // namespace
}  // namespace sonde::test
