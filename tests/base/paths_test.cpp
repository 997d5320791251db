#include "base/paths.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "support/assets.h"

namespace sonde {
namespace {

namespace fs = std::filesystem;

TEST(Paths, TheTestFindsTheModelOfItsSourceTree) {
  const std::string found = embedded_model();
  ASSERT_FALSE(found.empty());
  EXPECT_TRUE(fs::equivalent(found, test::source("models/mini")));
}

TEST(Paths, InstalledBeforeSourceTreeAndNothingIsNothing) {
  const fs::path top = fs::path(testing::TempDir()) / "sonde_paths_test";
  fs::remove_all(top);
  const std::string program = (top / "a/b/bin/sonde").string();
  EXPECT_EQ(embedded_model_for(program), "");
  const auto put = [](const fs::path& folder) {
    fs::create_directories(folder);
    std::ofstream(folder / "config.json") << "{}";
  };
  put(top / "a/models/mini");  // two above a/b/bin
  EXPECT_EQ(embedded_model_for(program), (top / "a/models/mini").string());
  put(top / "a/b/share/sonde/models/mini");
  EXPECT_EQ(embedded_model_for(program), (top / "a/b/share/sonde/models/mini").string());
  fs::remove_all(top);
}

}  // namespace
}  // namespace sonde
