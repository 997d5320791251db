// tokenize, detokenize, render and parse, from the command line to the lines they write.
#include "cli/program.h"

namespace sonde::test {
namespace {

std::string ids_text(const Json& ids) {
  std::string text;
  for (const Json& id : ids) text += (text.empty() ? "" : ",") + std::to_string(id.get<int>());
  return text;
}

TEST(Text, TokensGiveTheTextBack) {
  const std::string text = "37 × 48 等于多少？\n\n  Sum: <think> \t naïve 🙂";
  const Ran tokens = run({"tokenize", mini(), "--text", text, "--json"});
  ASSERT_EQ(tokens.code, 0) << tokens.err;
  EXPECT_EQ(tokens.err, "");
  const Json ids = tokens.json()["ids"];
  ASSERT_GT(ids.size(), 10u);
  const Ran back = run({"detokenize", mini(), "--ids", ids_text(ids), "--json"});
  ASSERT_EQ(back.code, 0) << back.err;
  EXPECT_EQ(back.json()["text"], text);
  std::string hex;
  for (const char c : text) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", static_cast<unsigned>(static_cast<unsigned char>(c)));
    hex += two;
  }
  EXPECT_EQ(back.json()["bytes_hex"], hex);

  // The plain forms fit each other, through files and pipes too.
  const Folder folder;
  write(folder / "text", text);
  const Ran plain = run({"tokenize", "-m", mini(), "--file", folder / "text"});
  EXPECT_EQ(plain.out, ids_text(ids) + "\n");
  EXPECT_EQ(run({"tokenize", mini(), "--file", "-"}, {.input = text}).out, plain.out);
  EXPECT_EQ(run({"detokenize", mini(), "--ids", "-"}, {.input = plain.out}).out, text);
  write(folder / "ids", plain.out);
  EXPECT_EQ(run({"detokenize", mini(), "--ids", "@" + (folder / "ids")}).out, text);
}

TEST(Text, ControlTokensCountOnlyWhereAskedFor) {
  const std::string bos = "<｜begin▁of▁sentence｜>";
  const Json plain = run({"tokenize", mini(), "--text", bos, "--json"}).json()["ids"];
  EXPECT_GT(plain.size(), 1u);
  EXPECT_EQ(run({"tokenize", mini(), "--text", bos, "--special", "--json"}).json()["ids"], Json::array({0}));
  EXPECT_EQ(run({"tokenize", mini(), "--text", "", "--bos", "--json"}).json()["ids"], Json::array({0}));
  EXPECT_EQ(run({"tokenize", mini(), "--text", "", "--json"}).json()["ids"], Json::array());
}

TEST(Text, HalfACharacterIsReplacedInTextAndExactInBytes) {
  const Json ids = run({"tokenize", mini(), "--text", "🙂", "--json"}).json()["ids"];
  ASSERT_GT(ids.size(), 1u);
  const Json half = run({"detokenize", mini(), "--ids", std::to_string(ids[0].get<int>()), "--json"}).json();
  EXPECT_EQ(half["text"], "\xef\xbf\xbd");
  EXPECT_EQ(half["bytes_hex"].get<std::string>().substr(0, 2), "f0");
  expect_one_error(run({"detokenize", mini(), "--ids", "99999999"}), 1, "99999999");
}

TEST(Detokenize, TakesEveryFormOfAListAndNamesAnEmptyPlace) {
  const std::string text = run({"detokenize", mini(), "--ids", "100,200,300"}).out;
  EXPECT_FALSE(text.empty());
  for (const char* list : {"[100, 200, 300]", "100 200 300", " 100 , 200\n,300\n", "{\"ids\": [100,200,300]}"}) {
    SCOPED_TRACE(list);
    EXPECT_EQ(run({"detokenize", mini(), "--ids", list}).out, text);
    EXPECT_EQ(run({"detokenize", mini(), "--ids", "-"}, {.input = list}).out, text);
  }
  expect_one_error(run({"detokenize", mini(), "--ids", "1,,2"}), 2, "place 2, after 1");
  expect_one_error(run({"detokenize", mini(), "--ids", "1,2,"}), 2, "place 3, after 2");
  expect_one_error(run({"detokenize", mini(), "--ids", ",1"}), 2, "place 1, at its beginning");
  expect_one_error(run({"detokenize", mini(), "--ids", "-"}, {.input = "[4, ,5]"}), 1, "place 2, after 4");
  expect_one_error(run({"logits", mini(), "--ids", "1,,2", "--out", "/nowhere/x"}), 2, "place 2");
}

TEST(Detokenize, NoTextIsNoIdsAndBack) {
  const Ran plain = run({"tokenize", mini(), "--text", ""}), json = run({"tokenize", mini(), "--text", "", "--json"});
  ASSERT_EQ(plain.code, 0) << plain.err;
  ASSERT_EQ(json.code, 0) << json.err;
  EXPECT_EQ(json.json()["ids"], Json::array());
  for (const std::string& list : {plain.out, json.out, std::string(), std::string("[]")}) {
    SCOPED_TRACE(list);
    const Ran back = run({"detokenize", mini(), "--ids", "-"}, {.input = list});
    EXPECT_EQ(back.code, 0) << back.err;
    EXPECT_EQ(back.out, "");
    EXPECT_EQ(run({"detokenize", mini(), "--ids", "-", "--json"}, {.input = list}).json()["text"], "");
  }
  EXPECT_EQ(run({"detokenize", mini(), "--ids", ""}).code, 0);
  expect_one_error(run({"logits", mini(), "--ids", "-", "--out", "/nowhere/x"}, {.input = "\n"}), 1, "no token ids");
}

TEST(Text, BrokenLinesAreAnsweredInTheirPlace) {
  const std::string input =
      "{\"text\": \"one\", \"unknown\": [1]}\n{\"text\": 5}\nno json\n\n[1]\n{\"text\": \"two\"}\n{}\n" +
      std::string(100000, '[') + "\n{\"text\": \"\xff\"}\n{\"text\": \"three\"}";
  const Ran ran = run({"tokenize", mini(), "--jsonl", "-"}, {.input = input});
  EXPECT_EQ(ran.code, 0);
  const std::vector<std::string> out = lines(ran.out);
  ASSERT_EQ(out.size(), 10u);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const bool good = i == 0 || i == 5 || i == 9;
    EXPECT_EQ(Json::parse(out[i]).contains(good ? "ids" : "error"), true) << i << ": " << out[i];
  }
  EXPECT_EQ(Json::parse(out[5])["ids"], run({"tokenize", mini(), "--text", "two", "--json"}).json()["ids"]);
}

// The embedded model has R1's template: the golden prompts come out of the program byte for byte, with errors where it
// raises.
TEST(Text, RenderGivesTheGoldenPrompts) {
  const std::string file = find_golden("chat/deepseek-r1.jsonl");
  for (const bool named : {false, true}) {
    std::vector<std::string> args = {"render", mini(), "--jsonl", file};
    if (named) args.insert(args.end(), {"--dialect", "deepseek-r1"});
    const Ran ran = run(args);
    ASSERT_EQ(ran.code, 0) << ran.err;
    EXPECT_EQ(ran.err, "");
    const std::vector<std::string> got = lines(ran.out), want = lines(contents(file));
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      const Json mine = Json::parse(got[i]), golden_line = Json::parse(want[i]);
      ASSERT_EQ(mine.contains("error"), golden_line.contains("error")) << golden_line["name"];
      if (mine.contains("error")) continue;
      EXPECT_EQ(mine["prompt"], golden_line["prompt"]) << golden_line["name"];
    }
  }
}

TEST(Text, RenderGivesTheIdsThatAskFeeds) {
  const Folder folder;
  write(folder / "talk.json", R"([{"role": "user", "content": "37 * 48"}])");
  const Json whole = run({"render", mini(), "--messages", folder / "talk.json", "--json"}).json();
  const std::string prompt = whole["prompt"];
  EXPECT_EQ(prompt, "<｜begin▁of▁sentence｜><｜User｜>37 * 48<｜Assistant｜><think>\n");
  EXPECT_EQ(run({"render", mini(), "--messages", folder / "talk.json"}).out, prompt);
  EXPECT_EQ(run({"tokenize", mini(), "--text", prompt, "--special", "--json"}).json()["ids"], whole["ids"]);
  // A dialect whose control tokens this vocabulary lacks still renders.
  const Json other =
      run({"render", mini(), "--dialect", "qwen2.5", "--messages", folder / "talk.json", "--json"}).json();
  EXPECT_NE(other["prompt"].get<std::string>().find("<|im_start|>"), std::string::npos);
  EXPECT_TRUE(other["ids"].is_null());
  expect_one_error(run({"render", mini(), "--dialect", "klingon", "--messages", folder / "talk.json"}), 1,
                   "deepseek-v3");
}

TEST(Text, RenderAnswersBrokenLines) {
  const std::string input =
      "{\"messages\": 5}\n{}\n{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"tools\": null, "
      "\"thinking\": null}\n"
      "{\"messages\": [7]}\n{\"messages\": [], \"tools\": 3}\n{\"messages\": [], \"add_generation_prompt\": \"yes\"}\n";
  const Ran ran = run({"render", mini(), "--jsonl", "-"}, {.input = input});
  EXPECT_EQ(ran.code, 0);
  const std::vector<std::string> out = lines(ran.out);
  ASSERT_EQ(out.size(), 6u);
  for (std::size_t i = 0; i < out.size(); ++i)
    EXPECT_EQ(Json::parse(out[i]).contains(i == 2 ? "prompt" : "error"), true) << i << ": " << out[i];
}

TEST(Text, ParseGivesTheGoldenMessages) {
  for (const std::string dialect : {"deepseek-v3", "deepseek-r1", "deepseek-v3.1"}) {
    std::string input;
    std::vector<Json> wanted;
    for (const std::string& line : lines(contents(find_golden("chat/parse.jsonl")))) {
      const Json record = Json::parse(line);
      if (record["dialect"] != dialect) continue;
      input += line + "\n";
      wanted.push_back(record);
    }
    ASSERT_GT(wanted.size(), 10u);
    const Ran ran = run({"parse", mini(), "--dialect", dialect, "--jsonl", "-"}, {.input = input});
    ASSERT_EQ(ran.code, 0) << ran.err;
    const std::vector<std::string> out = lines(ran.out);
    ASSERT_EQ(out.size(), wanted.size());
    for (std::size_t i = 0; i < out.size(); ++i) {
      Json got = Json::parse(out[i]), want = wanted[i]["expected"];
      ASSERT_EQ(got.contains("error"), want.contains("error")) << wanted[i]["name"] << out[i];
      if (got.contains("error")) continue;
      for (Json* message : {&got, &want})
        for (Json& call : (*message)["tool_calls"]) {
          const Json value = Json::parse(call["arguments"].get<std::string>(), nullptr, false);
          if (!value.is_discarded()) call["arguments"] = nlohmann::json(value);  // compared as a value
        }
      EXPECT_EQ(nlohmann::json(got), nlohmann::json(want)) << wanted[i]["name"];
    }
  }
}

TEST(Text, ParseTakesTheDialectsOwnPromptEnd) {
  const Ran ran = run({"parse", mini(), "--jsonl", "-"}, {.input = "{\"raw\": \"2 + 2\\n</think>\\n\\n4\"}\n{}\n"});
  EXPECT_EQ(ran.code, 0);
  const std::vector<std::string> out = lines(ran.out);
  ASSERT_EQ(out.size(), 2u);
  const Json message = Json::parse(out[0]);
  EXPECT_NE(message["reasoning_content"].get<std::string>().find("2 + 2"), std::string::npos);
  EXPECT_EQ(message["content"].get<std::string>().find("think"), std::string::npos);
  EXPECT_EQ(message["finish_reason"], "stop");
  EXPECT_TRUE(Json::parse(out[1]).contains("error"));
}

}  // namespace
}  // namespace sonde::test
