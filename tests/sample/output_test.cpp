// What watches an answer as it grows: stop texts, the thinking budget, the loop guard.
#include <gtest/gtest.h>

#include <random>

#include "sample/budget.h"
#include "sample/loop_guard.h"
#include "sample/stop.h"

namespace sonde {
namespace {

std::string through(StopMatcher& stop, const std::vector<std::string>& pieces) {
  std::string out;
  for (const auto& piece : pieces) out += stop.push(piece);
  return out + stop.finish();
}

TEST(Stop, IsFoundWhereverTheTextIsSplit) {
  const std::string text = "one STO two STSTOP three";
  for (std::size_t a = 0; a <= text.size(); ++a) {
    for (std::size_t b = a; b <= text.size(); ++b) {
      StopMatcher stop({"STOP", "never"});
      EXPECT_EQ(through(stop, {text.substr(0, a), text.substr(a, b - a), text.substr(b)}), "one STO two ST");
      EXPECT_EQ(stop.found(), "STOP");
    }
  }
  StopMatcher bytes({"STOP"});
  std::vector<std::string> single;
  for (char c : text) single.emplace_back(1, c);
  EXPECT_EQ(through(bytes, single), "one STO two ST");
}

TEST(Stop, HoldsBackOnlyWhatMayBecomeOne) {
  StopMatcher stop({"</end>"});
  EXPECT_EQ(stop.push("abc<"), "abc");
  EXPECT_EQ(stop.push("/e"), "");
  EXPECT_EQ(stop.push("x"), "</ex");
  EXPECT_EQ(stop.push("</en"), "");
  EXPECT_FALSE(stop.matched());
  EXPECT_EQ(stop.finish(), "</en");
}

TEST(Stop, OfSeveralTheFirstCompleteWinsForEverySplit) {
  const std::string text = "xxabcdyy";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    StopMatcher inner({"abcd", "bc"});
    EXPECT_EQ(through(inner, {text.substr(0, cut), text.substr(cut)}), "xxa") << cut;
    StopMatcher same_end({"cd", "abcd"});
    EXPECT_EQ(through(same_end, {text.substr(0, cut), text.substr(cut)}), "xx") << cut;
  }
}

TEST(Stop, OverlapsItself) {
  StopMatcher stop({"aab"});
  EXPECT_EQ(through(stop, {"a", "a", "a", "b", "c"}), "a");
  StopMatcher none({});
  EXPECT_EQ(through(none, {"a", "b"}), "ab");
}

TEST(Budget, ForcesTheClosingAtTheLimit) {
  BudgetTracker budget(3, {7, 8, 9}, true);
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(budget.forced().has_value()) << i;
    EXPECT_TRUE(budget.add("x"));
  }
  for (int32_t id : {7, 8, 9}) {
    ASSERT_TRUE(budget.forced().has_value());
    EXPECT_EQ(*budget.forced(), id);
    EXPECT_TRUE(budget.thinking());
    EXPECT_TRUE(budget.add(id == 9 ? "</think>" : "closing"));
  }
  EXPECT_FALSE(budget.thinking());
  EXPECT_FALSE(budget.forced().has_value());
  EXPECT_FALSE(budget.add("answer"));
  EXPECT_EQ(budget.reasoning_tokens(), 6);
}

TEST(Budget, ZeroClosesAtOnceAndNoLimitNever) {
  EXPECT_EQ(BudgetTracker(0, {5}, true).forced(), 5);
  EXPECT_FALSE(BudgetTracker(0, {5}, false).forced().has_value());
  BudgetTracker endless(-1, {5}, true);
  for (int i = 0; i < 1000; ++i) endless.add("y");
  EXPECT_FALSE(endless.forced().has_value());
  EXPECT_EQ(endless.reasoning_tokens(), 1000);
}

TEST(Budget, SeesTagsAcrossTokensAndCountsAnewInEachThought) {
  const std::string text = "hi<think>abc</think>mid<think>d</think>e";
  BudgetTracker budget(-1, {}, false);
  int inside = 0;
  for (char c : text) inside += budget.add(std::string(1, c));
  EXPECT_EQ(inside, 3 + 8 + 1 + 8);  // the closing tags' letters belong to the thought
  EXPECT_FALSE(budget.thinking());
  BudgetTracker whole(-1, {}, false);
  whole.add("<think>a</think>");
  EXPECT_FALSE(whole.thinking());
  BudgetTracker again(2, {4}, true);
  again.add("a"), again.add("</think>"), again.add("<think>"), again.add("b");
  EXPECT_FALSE(again.forced().has_value());
  again.add("c");
  EXPECT_EQ(again.forced(), 4);
}

TEST(Budget, LetsACharacterEnd) {
  BudgetTracker budget(1, {4}, true);
  budget.add("\xE4\xBD");
  EXPECT_FALSE(budget.forced().has_value());
  budget.add("\xA0");
  EXPECT_EQ(budget.forced(), 4);
  BudgetTracker broken(1, {4}, true);
  for (int i = 0; i < 4; ++i) broken.add("\xE4");
  EXPECT_EQ(broken.forced(), 4);  // but does not wait for ever
}

int fires_at(const std::vector<int32_t>& ids) {
  LoopGuard guard;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (guard.add(ids[i])) return static_cast<int>(i) + 1;
  }
  return -1;
}

TEST(LoopGuard, FiresOnEveryPeriodAfterTheStatedLength) {
  for (int period : {1, 2, 3, 17, 85, 86, 100, 255, 256}) {
    std::vector<int32_t> ids = {-1, -2, -3};  // an ordinary beginning
    for (int i = 0; i < 4000; ++i) ids.push_back(i % period);
    EXPECT_EQ(fires_at(ids), 3 + std::max(kLoopTokens, kLoopRepeats * period)) << period;
  }
}

TEST(LoopGuard, NeedsExactRepetition) {
  std::vector<int32_t> ids;
  for (int i = 0; i < 20000; ++i) ids.push_back(i % 50 == 49 ? 1000 + i / 50 : i % 50);  // one token differs per round
  EXPECT_EQ(fires_at(ids), -1);
  ids.clear();
  for (int i = 0; i < 5000; ++i) ids.push_back(i % 257);  // longer than the longest period
  EXPECT_EQ(fires_at(ids), -1);
}

// Bytes as tokens: harsher than words, as every repetition is several times longer.
TEST(LoopGuard, LeavesCodeAndTablesAlone) {
  std::string text;
  text += "const unsigned char zeros[] = {";
  for (int i = 0; i < 160; ++i) text += "0, ";
  text += "};\n";
  for (int i = 0; i < 60; ++i) {
    text += "  if (argument[" + std::to_string(i) + "] == nullptr) return make_error(kBadArgument, " +
            std::to_string(i) + ");\n";
  }
  text += "+" + std::string(120, '-') + "+\n";
  for (int row = 0; row < 80; ++row) {
    text += "| " + std::to_string(row) + " | yes | yes | yes | yes | yes | no | 0.00 | 0.00 | 0.00 |\n";
    if (row % 20 == 0) text += "|" + std::string(60, '=') + "|\n";
  }
  text += std::string(400, ' ') + "end";
  for (int i = 0; i < 5; ++i)
    text += "the same paragraph written five times, as a poem or a song's refrain may well do\n";
  std::vector<int32_t> ids(text.begin(), text.end());
  EXPECT_EQ(fires_at(ids), -1);
}

TEST(LoopGuard, RandomTextNeverFires) {
  std::mt19937 random(1);
  std::vector<int32_t> ids;
  for (int i = 0; i < 50000; ++i) ids.push_back(static_cast<int32_t>(random() % 3));
  EXPECT_EQ(fires_at(ids), -1);
}

}  // namespace
}  // namespace sonde
