// Each rule finds what breaks it: a small tree that keeps all rules, and one breach at a time.
#include "architecture/rules.h"

#include <gtest/gtest.h>

#include <fstream>

namespace sonde::house {
namespace {

namespace fs = std::filesystem;

class Rules : public testing::Test {
 protected:
  void SetUp() override {
    tree_ = fs::path(testing::TempDir()) /
            ("sonde_rules_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(tree_);
    write("include/sonde/engine.h", "#include <string>\n");
    write("src/base/text.h", "#include \"sonde/engine.h\"\n");
    write("src/tensor/quant/all.h", "#include \"tensor/types.h\"\nint q4_0;\n");
    write("src/tensor/types.h", "#include \"base/text.h\"\n// as ggml spells it: Q4_K\n");
    write("src/model/families/llama.cpp", "auto name = \"llama\";\n");
    write("src/model/mlp.cpp", "#include \"tensor/types.h\"\n#include <boost/asio.hpp>\n");
    write("src/cli/main.cpp", "#include \"model/mlp.h\"\n");
    write("tests/base/text_test.cpp", "EXPECT_EQ(1, 1);\n");
    for (const char* page : {"README.md", "README.zh.md", "ARCHITECTURE.md"})
      write(page, "src/base  a\nsrc/tensor  b\nsrc/model  c\nsrc/train  d (later)\nsrc/cli  e\n");
  }
  void TearDown() override { fs::remove_all(tree_); }

  void write(const std::string& file, const std::string& text) {
    fs::create_directories((tree_ / file).parent_path());
    std::ofstream(tree_ / file) << text;
  }
  static std::string first(const Findings& findings) {
    return findings.size() == 1 ? findings[0] : std::to_string(findings.size()) + " findings";
  }

  fs::path tree_;
};

TEST_F(Rules, AGoodTreePasses) {
  EXPECT_EQ(includes_go_one_way(tree_), Findings{});
  EXPECT_EQ(files_are_short(tree_), Findings{});
  EXPECT_EQ(quant_types_have_one_home(tree_), Findings{});
  EXPECT_EQ(families_have_one_home(tree_), Findings{});
  EXPECT_EQ(words_are_the_products_own(tree_), Findings{});
  EXPECT_EQ(tests_can_fail(tree_), Findings{});
  EXPECT_EQ(parsers_are_fuzzed(tree_), Findings{});
  EXPECT_EQ(maps_are_true(tree_), Findings{});
}

TEST_F(Rules, AnIncludeTheWrongWayRound) {
  write("src/tensor/up.cpp", "\n#include \"model/mlp.h\"\n");
  EXPECT_EQ(first(includes_go_one_way(tree_)), "src/tensor/up.cpp:2: tensor may not include model/mlp.h");
}

TEST_F(Rules, AnIncludePastTheFolders) {
  write("src/tensor/up.cpp", "#include \"../base/text.h\"\n");
  EXPECT_EQ(includes_go_one_way(tree_).size(), 1u);
}

TEST_F(Rules, ThePublicApiIncludesNothingOfSrc) {
  write("include/sonde/wide.h", "#include \"base/text.h\"\n");
  EXPECT_EQ(includes_go_one_way(tree_).size(), 1u);
}

TEST_F(Rules, AFolderThatIsNotOnTheMap) {
  write("src/misc/a.cpp", "#include <string>\n");
  EXPECT_EQ(includes_go_one_way(tree_).size(), 1u);
  EXPECT_EQ(maps_are_true(tree_).size(), 1u);
}

TEST_F(Rules, ALongFile) {
  std::string text;
  for (int i = 0; i < 501; ++i) text += "// line\n";
  write("src/base/long.cpp", text);
  EXPECT_EQ(first(files_are_short(tree_)), "src/base/long.cpp: 501 lines, 500 are allowed without a reason");
}

TEST_F(Rules, AQuantTypeOutOfItsHome) {
  write("src/model/special.cpp", "if (type == \"IQ2_XXS\") {}\n");
  EXPECT_EQ(quant_types_have_one_home(tree_).size(), 1u);
  write("src/model/special.cpp", "unpack_q4_k(x);\n");
  EXPECT_EQ(quant_types_have_one_home(tree_).size(), 1u);
}

TEST_F(Rules, AFamilyOutOfItsHome) {
  write("src/model/special.cpp", "if (config.model_type == \"deepseek_v3\") {}\n");
  EXPECT_EQ(families_have_one_home(tree_).size(), 1u);
}

TEST_F(Rules, APathOfOneMachine) {
  write("tools/run.sh", std::string("cd /wo") + "rk/main\n");
  EXPECT_EQ(words_are_the_products_own(tree_).size(), 1u);
}

TEST_F(Rules, ATestThatCannotFail) {
  write("tests/base/empty_test.cpp", "int main() {}\n");
  EXPECT_EQ(first(tests_can_fail(tree_)), "tests/base/empty_test.cpp: asserts nothing");
}

TEST_F(Rules, AParserWithoutATargetAndATargetWithoutACorpus) {
  write("src/files/gguf_reader.cpp", "int x;\n");
  EXPECT_EQ(parsers_are_fuzzed(tree_).size(), 1u);
  write("tests/fuzz/gguf_fuzz.cpp", "int x;\n");
  EXPECT_EQ(first(parsers_are_fuzzed(tree_)), "tests/fuzz/gguf_fuzz.cpp: has no corpus in tests/fuzz/corpus/gguf/");
  write("tests/fuzz/corpus/gguf/small", "GGUF");
  EXPECT_EQ(parsers_are_fuzzed(tree_), Findings{});
}

TEST_F(Rules, AMapThatForgetsAFolder) {
  write("src/text/a.cpp", "int x;\n");
  EXPECT_EQ(maps_are_true(tree_).size(), 3u);
}

}  // namespace
}  // namespace sonde::house
