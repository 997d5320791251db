// A cache file is whole and of its source, or it is not found.
#include "files/cache_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace sonde::test {
namespace {

namespace fs = std::filesystem;

class CacheFiles : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = fs::temp_directory_path() / "sonde-cache-XXXXXX";
    folder_ = mkdtemp(name.data());
    path_ = (folder_ / "deep" / "a.packed").string();
    for (std::size_t i = 0; i < bytes_.size(); ++i) bytes_[i] = std::byte(i * 7919 >> 5);
  }
  void TearDown() override { fs::remove_all(folder_); }
  Status make(const CacheFile::Key& key) {
    SONDE_TRY(auto file, CacheFile::create(path_, key, int64_t(bytes_.size())));
    // In uneven pieces, across the blocks that go to the disk at once.
    for (std::size_t at = 0, n = 1; at < bytes_.size(); at += n, n = std::min(n * 3, bytes_.size() - at))
      SONDE_CHECK(file->write(std::span(bytes_).subspan(at, n)));
    EXPECT_EQ(std::memcmp(file->data(), bytes_.data(), 1000), 0);  // the mapping shows what was handed over
    return file->commit(3, sha256("content"));
  }
  bool found(const CacheFile::Key& key) const {
    const auto file = CacheFile::find(path_, key);
    return file && file->bytes() == int64_t(bytes_.size()) && file->holds(3, sha256("content")) &&
           std::memcmp(file->data(), bytes_.data(), bytes_.size()) == 0;
  }
  std::size_t files() const {
    return fs::exists(folder_ / "deep")
               ? std::size_t(std::distance(fs::directory_iterator(folder_ / "deep"), fs::directory_iterator()))
               : 0;
  }

  fs::path folder_;
  std::string path_;
  std::vector<std::byte> bytes_ = std::vector<std::byte>((std::size_t{17} << 20) + 4096);
  CacheFile::Key key_{1, sha256("source")};
};

TEST_F(CacheFiles, AreFoundAsTheyWereWritten) {
  EXPECT_FALSE(CacheFile::find(path_, key_));
  const Status made = make(key_);
  ASSERT_TRUE(made.ok()) << made.error().message();
  EXPECT_TRUE(found(key_));
  EXPECT_EQ(files(), 1u);
  EXPECT_FALSE(CacheFile::find(path_, key_)->holds(4, sha256("content")));
  EXPECT_FALSE(CacheFile::find(path_, key_)->holds(3, sha256("other")));
  EXPECT_FALSE(CacheFile::find(path_, {2, key_.source}));
  EXPECT_FALSE(CacheFile::find(path_, {1, sha256("another")}));
  EXPECT_FALSE(CacheFile::find(folder_.string(), key_));
}

TEST_F(CacheFiles, AreReplacedAtOnceAndWhoMapsTheOldOneKeepsIt) {
  ASSERT_TRUE(make(key_).ok());
  const auto old = CacheFile::find(path_, key_);
  const std::vector<std::byte> before = bytes_;
  std::reverse(bytes_.begin(), bytes_.end());
  ASSERT_TRUE(make(key_).ok());
  EXPECT_TRUE(found(key_));
  EXPECT_EQ(std::memcmp(old->data(), before.data(), before.size()), 0);
  EXPECT_EQ(files(), 1u);
}

TEST_F(CacheFiles, TwoAtOnceDoNotDisturbEachOther) {
  auto one = CacheFile::create(path_, key_, int64_t(bytes_.size()));
  auto two = CacheFile::create(path_, key_, int64_t(bytes_.size()));
  ASSERT_TRUE(one.ok() && two.ok());
  ASSERT_TRUE((*one)->write(bytes_).ok());
  ASSERT_TRUE((*two)->write(std::span(bytes_).first(bytes_.size() / 2)).ok());
  ASSERT_TRUE((*one)->commit(3, sha256("content")).ok());
  EXPECT_TRUE(found(key_));
  ASSERT_TRUE((*two)->write(std::span(bytes_).subspan(bytes_.size() / 2)).ok());
  ASSERT_TRUE((*two)->commit(3, sha256("content")).ok());
  EXPECT_TRUE(found(key_));
  EXPECT_EQ(std::memcmp((*one)->data(), bytes_.data(), bytes_.size()), 0);
  EXPECT_EQ(files(), 1u);
}

TEST_F(CacheFiles, ThatWereNotFinishedLeaveNothing) {
  {
    auto file = CacheFile::create(path_, key_, int64_t(bytes_.size()));
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE((*file)->write(std::span(bytes_).first(std::size_t{9} << 20)).ok());
    EXPECT_FALSE((*file)->commit(3, sha256("content")).ok());  // too few bytes
    EXPECT_FALSE((*file)->write(bytes_).ok());                 // too many
  }
  EXPECT_EQ(files(), 0u);
  // What a process that was killed has left under a temporary name goes with the next file.
  std::ofstream(path_ + ".tmp-1-0") << "half";
  ASSERT_TRUE(make(key_).ok());
  EXPECT_EQ(files(), 1u);
}

TEST_F(CacheFiles, ThatAreDamagedAreNotFound) {
  ASSERT_TRUE(make(key_).ok());
  std::vector<char> whole(fs::file_size(path_));
  std::ifstream(path_, std::ios::binary).read(whole.data(), std::streamsize(whole.size()));
  const auto put = [&](const std::vector<char>& bytes) {
    std::ofstream(path_, std::ios::binary | std::ios::trunc).write(bytes.data(), std::streamsize(bytes.size()));
  };
  const auto change = [&](std::size_t at, char with) {
    std::fstream(path_, std::ios::binary | std::ios::in | std::ios::out).seekp(std::streamoff(at)).put(with);
  };
  for (std::size_t at = 0; at < 120; ++at) {  // every byte that the header has
    change(at, char(whole[at] ^ 0x10));
    EXPECT_FALSE(CacheFile::find(path_, key_)) << at;
    change(at, whole[at]);
  }
  EXPECT_TRUE(found(key_));
  const std::size_t sizes[] = {0, 100, 4096, whole.size() - 1, whole.size() + 1};
  for (const std::size_t size : sizes) {
    std::vector<char> cut = whole;
    cut.resize(size);
    put(cut);
    EXPECT_FALSE(CacheFile::find(path_, key_)) << size;
  }
  put(whole);
  EXPECT_TRUE(found(key_));
}

TEST_F(CacheFiles, SayWhereThereIsNoRoom) {
  const auto far = CacheFile::create(path_, key_, int64_t{1} << 60);
  ASSERT_FALSE(far.ok());
  EXPECT_EQ(far.error().code, Code::kTooLarge);
  std::ofstream(folder_ / "file") << "x";
  EXPECT_FALSE(CacheFile::create((folder_ / "file" / "a.packed").string(), key_, 100).ok());
  // A disk that fills up on the way: as a limit on the size of files.
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    auto file = CacheFile::create(path_, key_, int64_t(bytes_.size()));
    const rlimit limit{std::size_t{10} << 20, std::size_t{10} << 20};
    if (!file.ok() || setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(2);
    _exit((*file)->write(bytes_).ok() ? 1 : 0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_FALSE(CacheFile::find(path_, key_));
}

}  // namespace
}  // namespace sonde::test
