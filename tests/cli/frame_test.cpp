// What every command has in common: help, errors, exit codes, JSON.
#include "cli/program.h"

namespace sonde::test {
namespace {

const std::vector<std::string> kCommands = {"ask",        "chat",   "serve",      "generate", "inspect",
                                            "plan",       "bench",  "perplexity", "logits",   "tokenize",
                                            "detokenize", "render", "parse",      "convert",  "pack",
                                            "synth"};

TEST(Frame, HelpListsEveryCommandAndEachHasExamples) {
  const Ran help = run({"help"});
  EXPECT_EQ(help.code, 0);
  for (const std::string& name : kCommands) {
    EXPECT_NE(help.out.find("\n  " + name + " "), std::string::npos) << name;
    const Ran own = run({name, "--help"});
    EXPECT_EQ(own.code, 0) << name;
    EXPECT_EQ(own.err, "") << name;
    const std::size_t examples = own.out.find("\nExamples:\n");
    ASSERT_NE(examples, std::string::npos) << name;
    EXPECT_NE(own.out.find("sonde " + name, examples), std::string::npos) << name;
    EXPECT_NE(own.out.find("Usage: sonde " + name), std::string::npos) << name;
    EXPECT_EQ(run({"help", name}).out, own.out) << name;
  }
}

TEST(Frame, VersionIsOneLine) {
  const Ran ran = run({"--version"});
  EXPECT_EQ(ran.code, 0);
  EXPECT_EQ(ran.out.rfind("sonde ", 0), 0u);
  EXPECT_EQ(lines(ran.out).size(), 1u);
}

TEST(Frame, MistakesInTheCommandLineAreUsageErrors) {
  EXPECT_EQ(run({}).code, 2);
  EXPECT_EQ(run({}).out, "");
  expect_one_error(run({"frobnicate"}), 2, "frobnicate");
  expect_one_error(run({"inspect", mini(), "--frobnicate"}), 2, "--frobnicate");
  expect_one_error(run({"inspect"}), 2, "MODEL");
  expect_one_error(run({"inspect", mini(), "-m", mini()}), 2, "twice");
  expect_one_error(run({"tokenize", mini()}), 2, "--text");
  expect_one_error(run({"tokenize", mini(), "--text", "a", "--file", "b"}), 2, "--text");
  expect_one_error(run({"detokenize", mini()}), 2, "--ids");
  expect_one_error(run({"detokenize", mini(), "--ids", "1,x"}), 2, "x");
  expect_one_error(run({"detokenize", mini(), "--ids", "-1"}), 2, "-1");
  expect_one_error(run({"logits", mini(), "--ids", "1"}), 2, "--out");
  for (const char* draft : {"16", "-1", "many", ""})
    expect_one_error(run({"generate", mini(), "--ids", "1", "--draft", draft}), 2, "--draft");
  expect_one_error(run({"generate", mini()}), 2, "--prompt");
  expect_one_error(run({"generate", mini(), "--ids", "1", "--max-tokens", "0"}), 2, "--max-tokens");
  expect_one_error(run({"generate", mini(), "--ids", "1", "--temperature", "warm"}), 2, "warm");
  expect_one_error(run({"generate", mini(), "--ids", "1", "--temperature", "-1"}), 2, "--temperature");
  expect_one_error(run({"generate", mini(), "--ids", "1", "--temperature", "nan"}), 2, "--temperature");
  expect_one_error(run({"generate", mini(), "--ids", "1", "--top-p", "0"}), 2, "--top-p");
  expect_one_error(run({"generate", mini(), "--ids", "1", "--seed", "-1"}), 2, "--seed");
  expect_one_error(run({"ask", mini(), ""}), 2, "question");
  expect_one_error(run({"generate", mini(), "--ids", "1", "--logit-bias", "5"}), 2, "ID:VALUE");
  expect_one_error(run({"generate", mini(), "--ids", "1", "--threads", "-3"}), 2, "--threads");
  expect_one_error(run({"ask"}), 2, "question");
  expect_one_error(run({"ask", "1 + 1", "--no-think", "--think-budget", "3"}), 2, "exclude");
  expect_one_error(run({"perplexity", mini()}), 2, "--file");
  expect_one_error(run({"plan", mini(), "--batch", "0"}), 2, "--batch");
  expect_one_error(run({"plan", mini(), "--seconds", "0"}), 2, "--seconds");
  expect_one_error(run({"bench", mini(), "--depth", "1,x"}), 2, "--depth");
  expect_one_error(run({"bench", mini(), "--seconds", "nan"}), 2, "--seconds");
  expect_one_error(run({"convert", mini(), "--to", "onnx", "--out", "x"}), 2, "gguf");
}

TEST(Frame, AMissingFileIsOneClearLine) {
  const std::string gone = "/nowhere/model.gguf";
  for (const std::vector<std::string>& args :
       std::vector<std::vector<std::string>>{{"inspect", gone},
                                             {"plan", gone},
                                             {"tokenize", gone, "--text", "a"},
                                             {"detokenize", gone, "--ids", "1"},
                                             {"render", gone, "--jsonl", "-"},
                                             {"parse", gone, "--jsonl", "-"},
                                             {"logits", gone, "--ids", "1", "--out", "/tmp/never.safetensors"},
                                             {"generate", gone, "--ids", "1"},
                                             {"perplexity", gone, "--file", "x"},
                                             {"ask", gone, "hello"},
                                             {"chat", gone},
                                             {"bench", gone},
                                             {"convert", gone, "--to", "hf", "--out", "/tmp/never"}}) {
    SCOPED_TRACE(args[0]);
    expect_one_error(run(args), 1, gone);
  }
  expect_one_error(run({"tokenize", mini(), "--file", "/nowhere/text"}), 1, "/nowhere/text");
  expect_one_error(run({"tokenize", mini(), "--jsonl", "/nowhere/lines"}), 1, "/nowhere/lines");
}

TEST(Frame, WithJsonErrorsAreJson) {
  const Ran missing = run({"inspect", "/nowhere/model.gguf", "--json"});
  EXPECT_EQ(missing.code, 1);
  EXPECT_EQ(missing.out, "");
  const Json error = Json::parse(missing.err)["error"];
  EXPECT_EQ(error["code"], "not_found");
  EXPECT_NE(error["message"].get<std::string>().find("/nowhere/model.gguf"), std::string::npos);

  const Ran usage = run({"generate", mini(), "--json"});
  EXPECT_EQ(usage.code, 2);
  EXPECT_EQ(Json::parse(usage.err)["error"]["code"], "usage");
}

TEST(Frame, AHostileFileIsAnErrorWithoutAnythingOnStdout) {
  const Folder folder;
  const std::string golden_file = contents(find_golden("gguf/llama.Q5_1.gguf"));
  ASSERT_FALSE(golden_file.empty());
  write(folder / "cut.gguf", golden_file.substr(0, golden_file.size() / 2));
  std::string counts = golden_file;
  std::fill(counts.begin() + 8, counts.begin() + 24, '\xff');  // numbers of tensors and keys
  write(folder / "counts.gguf", counts);
  write(folder / "text.gguf", "not a model at all");
  write(folder / "model.safetensors", std::string(8, '\xff') + "{}");
  write(folder / "empty.gguf", "");
  for (const char* name : {"cut.gguf", "counts.gguf", "text.gguf", "model.safetensors", "empty.gguf"}) {
    SCOPED_TRACE(name);
    expect_one_error(run({"inspect", folder / name}, {.memory_kib = 6000000}), 1, name);
    expect_one_error(run({"generate", folder / name, "--ids", "1"}, {.memory_kib = 6000000}), 1, name);
  }
}

TEST(Frame, NamesFromFilesDoNotSteerTheTerminal) {
  expect_one_error(run({"inspect", "/nowhere/\033[2Jmodel\nsonde: fine"}), 1, "/nowhere/?[2Jmodel sonde: fine");
}

}  // namespace
}  // namespace sonde::test
