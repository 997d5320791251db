// sonde pack: writes, verifies and removes the cache file that other commands start from.
#include <filesystem>

#include "cli/program.h"

namespace sonde::test {
namespace {

namespace fs = std::filesystem;

std::size_t files_in(const std::string& folder) {
  return fs::exists(folder) ? std::size_t(std::distance(fs::directory_iterator(folder), fs::directory_iterator())) : 0;
}

TEST(Pack, WritesVerifiesAndRemoves) {
  const Folder folder;
  const std::string model = golden("gguf/qwen3-wide.Q6_K.gguf"), cache = folder / "cache";
  const RunOptions with{.cache = cache};
  const Ran first = run({"pack", model, "--json"}, with);
  ASSERT_EQ(first.code, 0) << first.err;
  const Json j = first.json();
  const std::string file = j["file"];
  EXPECT_EQ(j["packed"], true);
  EXPECT_EQ(int64_t(fs::file_size(file)), j["bytes"].get<int64_t>() + 4096);
  EXPECT_EQ(j["source_bytes"].get<int64_t>(), int64_t(fs::file_size(model)));
  EXPECT_EQ(files_in(cache), 1u);
  const Ran again = run({"pack", model, "--json"}, with);
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(again.json()["packed"], false);

  // The same answer from the file, from memory, and by a way that never saw the file.
  const std::vector<std::string> ask = {"generate", model, "--ids", "1,2,3", "-n", "8", "--temperature", "0", "--json"};
  const Ran kept = run(ask, with), plain = run(ask);
  ASSERT_EQ(kept.code, 0) << kept.err;
  EXPECT_EQ(kept.json()["ids"], plain.json()["ids"]);
  EXPECT_EQ(kept.err, plain.err);

  const Ran right = run({"pack", model, "--verify"}, with);
  EXPECT_EQ(right.code, 0) << right.err;
  EXPECT_NE(right.out.find(file), std::string::npos) << right.out;
  // In the header and behind it, in a matrix, at the end.
  const std::string sound = contents(file);
  for (const std::size_t at : {std::size_t{30}, std::size_t{3000}, std::size_t{5000}, sound.size() - 1}) {
    std::string damaged = sound;
    damaged[at] = char(damaged[at] ^ 0x31);
    write(file, damaged);
    expect_one_error(run({"pack", model, "--verify"}, with), 1, at < 4096 ? "no sound cache file" : "other bytes");
  }
  write(file, sound + std::string(4096, '\0'));
  expect_one_error(run({"pack", model, "--verify"}, with), 1, "no sound cache file");
  write(file, sound);
  EXPECT_EQ(run({"pack", model, "--verify"}, with).code, 0);
  const Ran removed = run({"pack", model, "--remove"}, with);
  EXPECT_EQ(removed.code, 0) << removed.err;
  EXPECT_EQ(files_in(cache), 0u);
  EXPECT_EQ(run({"pack", model, "--remove", "--json"}, with).json()["removed"], false);
  expect_one_error(run({"pack", model, "--verify"}, with), 1, "no sound cache file");
}

TEST(Pack, SaysWhyThereIsNoFile) {
  const std::string model = golden("gguf/qwen3-wide.Q6_K.gguf");
  expect_one_error(run({"pack", model}), 1, "no folder for cache files");
  const Folder folder;
  write(folder / "file", "x");
  expect_one_error(run({"pack", model}, {.cache = folder / "file/cache"}), 1, "cannot be kept");
  const Ran nothing = run({"pack", find_golden("models/llama3-rope-bf16")}, {.cache = folder / "cache"});
  EXPECT_EQ(nothing.code, 0) << nothing.err;
  EXPECT_NE(nothing.out.find("nothing to pack"), std::string::npos) << nothing.out;
  EXPECT_EQ(files_in(folder / "cache"), 0u);
  expect_one_error(run({"pack", model, "--verify", "--remove"}, {.cache = folder / "cache"}), 2, "one of");
}

}  // namespace
}  // namespace sonde::test
