// The house keeps its own rules.
#include <gtest/gtest.h>

#include "architecture/rules.h"

namespace sonde::house {
namespace {

std::string lines(const Findings& findings) {
  std::string text;
  for (const std::string& finding : findings) text += "  " + finding + "\n";
  return text;
}

#define EXPECT_KEPT(rule)                             \
  do {                                                \
    const Findings findings = rule(SONDE_SOURCE_DIR); \
    EXPECT_TRUE(findings.empty()) << lines(findings); \
  } while (false)

TEST(Architecture, IncludesGoOneWay) { EXPECT_KEPT(includes_go_one_way); }
TEST(Architecture, FilesAreShort) { EXPECT_KEPT(files_are_short); }
TEST(Architecture, QuantTypesHaveOneHome) { EXPECT_KEPT(quant_types_have_one_home); }
TEST(Architecture, FamiliesHaveOneHome) { EXPECT_KEPT(families_have_one_home); }
TEST(Architecture, WordsAreTheProductsOwn) { EXPECT_KEPT(words_are_the_products_own); }
TEST(Architecture, TestsCanFail) { EXPECT_KEPT(tests_can_fail); }
TEST(Architecture, ParsersAreFuzzed) { EXPECT_KEPT(parsers_are_fuzzed); }
TEST(Architecture, MapsAreTrue) { EXPECT_KEPT(maps_are_true); }

}  // namespace
}  // namespace sonde::house
