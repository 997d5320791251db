// ask and chat on the embedded model, which knows arithmetic.
#include "cli/program.h"

namespace sonde::test {
namespace {

TEST(Ask, AnswersWithTheEmbeddedModel) {
  const Ran ran = run({"ask", "37 * 48", "--temperature", "0"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_NE(ran.err.find("embedded default"), std::string::npos);
  EXPECT_EQ(ran.out.rfind("reasoning:\n", 0), 0u) << ran.out;
  const std::size_t answer = ran.out.find("\n\n");
  ASSERT_NE(answer, std::string::npos);
  EXPECT_NE(ran.out.find("1776", answer), std::string::npos) << ran.out;
  EXPECT_EQ(ran.out.find("think>"), std::string::npos);
}

TEST(Ask, JsonTellsReasoningAnswerAndUsage) {
  for (const std::vector<std::string>& args : std::vector<std::vector<std::string>>{
           {"ask", mini(), "37 × 48 等于多少？", "--temperature", "0", "--json"},
           {"ask", "-m", mini(), "37 × 48 等于多少？", "--temperature", "0", "--json"},
           {"ask", mini(), "-", "--temperature", "0", "--json", "--reproducible"}}) {
    const Ran ran = run(args, {.input = "37 × 48 等于多少？"});
    ASSERT_EQ(ran.code, 0) << ran.err;
    const Json j = ran.json(), want = Json::parse(contents(mini() + "/expected.json"))[0];
    const std::string text = want["text"];
    EXPECT_EQ(j["reasoning_content"], text.substr(0, text.find("</think>")));
    EXPECT_NE(j["content"].get<std::string>().find("\\boxed{1776}"), std::string::npos);
    EXPECT_EQ(j["finish_reason"], "stop");
    EXPECT_EQ(j["usage"]["prompt_tokens"], want["prompt_tokens"]);
  }
}

TEST(Ask, ThoughtsCanBeLeftOutOrBounded) {
  const Json none = run({"ask", mini(), "12 + 30", "--no-think", "--temperature", "0", "--json"}).json();
  EXPECT_TRUE(none["reasoning_content"].is_null() ||
              none["reasoning_content"].get<std::string>().find_first_not_of("\n") == std::string::npos)
      << none;
  EXPECT_FALSE(none["content"].get<std::string>().empty());
  const Json few = run({"ask", mini(), "37 * 48", "--think-budget", "10", "--temperature", "0", "--json"}).json();
  const Json all = run({"ask", mini(), "37 * 48", "--temperature", "0", "--json"}).json();
  EXPECT_LT(few["usage"]["reasoning_tokens"], all["usage"]["reasoning_tokens"]);
  EXPECT_FALSE(few["content"].get<std::string>().empty());
}

TEST(Ask, TheAnswerCanBeCut) {
  const Ran ran = run({"ask", mini(), "37 * 48", "--max-tokens", "5", "--temperature", "0", "--json"});
  EXPECT_EQ(ran.code, 0);
  EXPECT_EQ(ran.json()["finish_reason"], "length");
  EXPECT_EQ(ran.json()["usage"]["completion_tokens"], 5);
}

TEST(Ask, AModelWithoutTokenizerIsRefused) {
  expect_one_error(run({"ask", find_golden("models/v2-lite-f32"), "hello"}), 1);
}

TEST(Chat, GoesOnOverPipes) {
  const Folder folder;
  const std::string file = folder / "talk.json";
  const Ran ran =
      run({"chat", mini(), "--temperature", "0", "--json"},
          {.input = "37 * 48\n\n/save " + file + "\n12 + 30\n/reset\n/save " + (folder / "empty.json") + "\n/load " +
                    file + "\n/frobnicate\n/load /nowhere/talk\n/think off\n12 + \\\n30\n/quit\nnever asked\n"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const std::vector<std::string> answers = lines(ran.out);
  ASSERT_EQ(answers.size(), 3u) << ran.out;
  EXPECT_NE(Json::parse(answers[0])["content"].get<std::string>().find("1776"), std::string::npos);
  EXPECT_NE(Json::parse(answers[1])["content"].get<std::string>().find("42"), std::string::npos);
  const Json saved = Json::parse(contents(file))["messages"];
  ASSERT_EQ(saved.size(), 2u);
  EXPECT_EQ(saved[0]["content"], "37 * 48");
  EXPECT_EQ(saved[1]["role"], "assistant");
  EXPECT_EQ(Json::parse(contents(folder / "empty.json"))["messages"], Json::array());
  EXPECT_NE(ran.err.find("/frobnicate"), std::string::npos);
  EXPECT_NE(ran.err.find("/nowhere/talk"), std::string::npos);
  // What was saved renders as any other conversation does.
  EXPECT_NE(run({"render", mini(), "--messages", file}).out.find("1776"), std::string::npos);
}

TEST(Chat, PlainAnswersGoToStdoutAlone) {
  const Ran ran = run({"chat", mini(), "--temperature", "0"}, {.input = "12 + 30\n"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_NE(ran.out.find("42"), std::string::npos);
}

}  // namespace
}  // namespace sonde::test
