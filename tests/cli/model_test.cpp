// Commands that open weights: inspect, logits, generate, perplexity, convert, plan.
#include <cmath>
#include <cstring>

#include "cli/program.h"
#include "files/safetensors.h"
#include "support/runner.h"

namespace sonde::test {
namespace {

constexpr int64_t kSmall = 6000000;  // KiB: the bound under which inspect and logits must work

template <class T>
std::string joined(const std::vector<T>& values) {
  std::string text;
  for (const T& v : values) text += (text.empty() ? "" : ",") + std::to_string(v);
  return text;
}

TEST(Inspect, TellsWhatTheEmbeddedModelIs) {
  const Ran ran = run({"inspect", mini(), "--json", "--check"}, {.memory_kib = kSmall});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json j = ran.json();
  EXPECT_EQ(j["model_type"], "deepseek_v3");
  EXPECT_EQ(j["format"], "safetensors");
  EXPECT_EQ(j["dialect"], "deepseek-r1");
  EXPECT_EQ(j["tokenizer"]["size"], 1024);
  EXPECT_EQ(j["tensors"]["count"], 211);
  EXPECT_EQ(j["context"], 2048);
  EXPECT_EQ(j["check"]["bad"], Json::array());
  // All the weights of the file: main model and MTP layer.
  int64_t values = 0;
  const auto file = open_safetensors(mini() + "/model.safetensors");
  ASSERT_TRUE(file.ok());
  for (const auto& [name, tensor] : file->tensors) values += tensor.count();
  EXPECT_EQ(j["parameters"].get<int64_t>() + j["mtp_parameters"].get<int64_t>(), values);
  EXPECT_LT(j["active_parameters"], j["parameters"]);
  // Latent 64 and rotary 16 values in each of 5 layers and the MTP layer.
  EXPECT_EQ(j["memory"]["kv_bytes_per_token"], 6 * (64 + 16) * 4);
  const Ran text = run({"inspect", mini()});
  EXPECT_EQ(text.code, 0);
  EXPECT_NE(text.out.find("deepseek-r1"), std::string::npos);
}

TEST(Inspect, NeedsNeitherTokenizerNorDialect) {
  for (const char* name : {"models/v2-lite-f32", "models/v3-fp8-ue8m0", "models/llama3-rope-bf16"}) {
    SCOPED_TRACE(name);
    const Ran ran = run({"inspect", find_golden(name), "--json"}, {.memory_kib = kSmall});
    ASSERT_EQ(ran.code, 0) << ran.err;
    EXPECT_TRUE(ran.json()["tokenizer"].is_null());
    EXPECT_TRUE(ran.json()["dialect"].is_null());
    EXPECT_GT(ran.json()["parameters"].get<int64_t>(), 0);
  }
  const Ran gguf = run({"inspect", find_golden("gguf/v2-lite-joined.Q8_0.gguf"), "--json"}, {.memory_kib = kSmall});
  ASSERT_EQ(gguf.code, 0) << gguf.err;
  EXPECT_EQ(gguf.json()["format"], "gguf");
  EXPECT_EQ(gguf.json()["tokenizer"]["size"], 512);
}

TEST(Inspect, TheFirstOfSeveralFilesStandsForAll) {
  const std::string folder = find_golden("models/v3-bf16");
  const Json whole = run({"inspect", folder, "--json"}).json();
  const Json first = run({"inspect", folder + "/model-00001-of-000003.safetensors", "--json"}).json();
  EXPECT_EQ(first["tensors"], whole["tensors"]);
  EXPECT_EQ(whole["tensors"]["count"], 351);
}

TEST(Inspect, CheckFindsNotANumber) {
  const Folder folder;
  const std::string from = find_golden("models/qwen2-tied-bf16");
  write(folder / "config.json", contents(from + "/config.json"));
  std::string bytes = contents(from + "/model.safetensors");
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  const Json directory = Json::parse(bytes.substr(8, header));
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  const auto begin = directory[name]["data_offsets"][0].get<std::size_t>();
  const uint16_t nan = 0x7fc0, inf = 0xff80;  // BF16
  std::memcpy(bytes.data() + 8 + header + begin + 2 * 5, &nan, 2);
  std::memcpy(bytes.data() + 8 + header + begin + 2 * 9, &inf, 2);
  write(folder / "model.safetensors", bytes);

  EXPECT_EQ(run({"inspect", folder / "."}).code, 0);
  const Ran ran = run({"inspect", folder / ".", "--check", "--json"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_NE(ran.err.find(name), std::string::npos);
  const Json bad = ran.json()["check"]["bad"];
  ASSERT_EQ(bad.size(), 1u);
  EXPECT_EQ(bad[0], Json({{"tensor", name}, {"nan", 1}, {"inf", 1}, {"first", 5}}));
}

// Every tensor that `logits` writes, against the published implementation's, on one checkpoint of each kind of
// attention.
TEST(Logits, EqualTheGoldens) {
  struct Case {
    const char *model, *expected;
  };
  for (const Case& c :
       {Case{"models/v2-lite-f32", "models/v2-lite-f32/expected.safetensors"},
        Case{"models/v3-bf16", "models/v3-bf16/expected.safetensors"},
        Case{"models/qwen2-tied-bf16", "models/qwen2-tied-bf16/expected.safetensors"},
        Case{"gguf/v3-split-mtp.BF16.gguf", "gguf/v3-split-mtp.BF16.expected.safetensors"},
        Case{"gguf/split/v2-lite-split.Q8_0-00001-of-00003.gguf", "gguf/v2-lite-split.Q8_0.expected.safetensors"}}) {
    const auto expected = Expected::open(find_golden(c.expected));
    ASSERT_TRUE(expected.ok());
    for (const std::string p : {"0", "1", "2"}) {
      SCOPED_TRACE(c.model + (" prompt " + p));
      const Folder folder;
      const std::vector<int32_t> ids = expected->ints(p + ".input_ids");
      const Ran ran =
          run({"logits", find_golden(c.model), "--ids", joined(ids), "--out", folder / "out.safetensors", "--hidden"},
              {.memory_kib = kSmall});
      ASSERT_EQ(ran.code, 0) << ran.err;
      EXPECT_EQ(ran.out, "");
      const auto got = Expected::open(folder / "out.safetensors");
      ASSERT_TRUE(got.ok());
      int compared = 0;
      const auto written = open_safetensors(folder / "out.safetensors");
      for (const auto& [name, tensor] : written->tensors) {
        if (!expected->has(p + "." + name)) continue;
        ++compared;
        ASSERT_EQ(got->shape(name), expected->shape(p + "." + name)) << name;
        if (name.rfind("experts.", 0) == 0)
          EXPECT_EQ(got->ints(name), expected->ints(p + "." + name)) << name;
        else
          EXPECT_LE(worst(got->floats(name), expected->floats(p + "." + name)), 2e-4) << name;
      }
      EXPECT_GE(compared, p == "2" ? 1 : 4);
      for (const std::string& wanted : {std::string("logits"), std::string("mtp_logits")})
        EXPECT_EQ(got->has(wanted), expected->has(p + "." + wanted)) << wanted;
    }
  }
}

TEST(Logits, OneFormThroughoutAgreesAndIdsComeFromFilesToo) {
  const auto expected = Expected::open(mini() + "/expected.safetensors");
  ASSERT_TRUE(expected.ok());
  const std::vector<int32_t> ids = expected->ints("1.input_ids");
  const Folder folder;
  write(folder / "ids", "[" + joined(ids) + "]\n");
  ASSERT_EQ(run({"logits", mini(), "--ids", "@" + (folder / "ids"), "--out", folder / "a", "--threads", "1"}).code, 0);
  ASSERT_EQ(
      run({"logits", mini(), "--ids", "-", "--out", folder / "b", "--reproducible", "--exact"}, {.input = joined(ids)})
          .code,
      0);
  const auto a = Expected::open(folder / "a"), b = Expected::open(folder / "b");
  ASSERT_TRUE(a.ok() && b.ok());
  for (const std::string name : {"logits", "mtp_logits"}) {
    const std::vector<float> want = expected->floats("1." + name);
    EXPECT_LE(worst(a->floats(name), want), 2e-4) << name;
    EXPECT_LE(worst(b->floats(name), want), 2e-4) << name;
  }
  EXPECT_FALSE(a->has("hidden.0"));
}

TEST(Logits, RefusesWhatTheModelCannotTake) {
  const Folder folder;
  expect_one_error(run({"logits", mini(), "--ids", "1,1024", "--out", folder / "x"}), 1, "1024");
  expect_one_error(run({"logits", mini(), "--ids", "1,2,3", "--context", "2", "--out", folder / "x"}), 1,
                   "at most 2, found 3");
  expect_one_error(run({"logits", mini(), "--ids", "1", "--out", "/nowhere/x"}), 1, "/nowhere/x");
  EXPECT_FALSE(std::filesystem::exists(folder / "x"));
}

TEST(Generate, GivesTheGreedyIds) {
  const auto expected = Expected::open(find_golden("models/v2-lite-f32/expected.safetensors"));
  ASSERT_TRUE(expected.ok());
  const std::vector<int32_t> want = expected->ints("1.greedy");
  const Ran ran = run({"generate", find_golden("models/v2-lite-f32"), "--ids", joined(expected->ints("1.input_ids")),
                       "--max-tokens", std::to_string(want.size()), "--temperature", "0", "--ignore-eos", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.json()["ids"].get<std::vector<int32_t>>(), want);
  EXPECT_TRUE(ran.json()["text"].is_null());
  EXPECT_EQ(ran.json()["finish_reason"], "length");
  EXPECT_EQ(ran.json()["timings"]["completion_tokens"], want.size());
  const Ran plain = run({"generate", find_golden("models/v2-lite-f32"), "--ids", joined(expected->ints("1.input_ids")),
                         "-n", std::to_string(want.size()), "--temperature", "0", "--ignore-eos"});
  EXPECT_EQ(plain.out, joined(want) + "\n");
}

TEST(Generate, StopsAtTheEndTokenAndAtStopTexts) {
  const auto expected = Expected::open(mini() + "/expected.safetensors");
  ASSERT_TRUE(expected.ok());
  std::vector<int32_t> want = expected->ints("0.greedy");
  ASSERT_EQ(want.back(), 1);  // the end token, which is no part of the answer
  want.pop_back();
  const std::vector<std::string> args = {"generate",      mini(), "--ids", joined(expected->ints("0.prompt_ids")),
                                         "--temperature", "0",    "--json"};
  const Ran ran = run(args);
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.json()["ids"].get<std::vector<int32_t>>(), want);
  EXPECT_EQ(ran.json()["finish_reason"], "stop");
  std::vector<std::string> drafted = args;
  drafted.insert(drafted.end(), {"--draft", "2"});
  const Json ahead = run(drafted).json();
  EXPECT_EQ(ahead["ids"], ran.json()["ids"]);
  EXPECT_GT(ahead["timings"]["accepted_tokens"].get<int64_t>() * 4, ssize(want));
  EXPECT_GE(ahead["timings"]["drafted_tokens"], ahead["timings"]["accepted_tokens"]);
  drafted.back() = "off";
  EXPECT_EQ(run(drafted).json()["timings"]["drafted_tokens"], 0);
  std::vector<std::string> stopped = args;
  stopped.insert(stopped.end(), {"--stop", "never", "--stop", "1776"});
  const std::string text = ran.json()["text"], cut = run(stopped).json()["text"];
  EXPECT_EQ(cut, text.substr(0, text.find("1776")));
}

TEST(Generate, SamplesAlikeWithOneSeed) {
  const std::vector<std::string> args = {"generate",      mini(), "--prompt", "12 + 30", "-n",    "20",
                                         "--temperature", "1.5",  "--seed",   "7",       "--json"};
  const Json a = run(args).json(), b = run(args).json();
  EXPECT_EQ(a["ids"], b["ids"]);
  EXPECT_EQ(a["seed"], 7);
  std::vector<std::string> other = args;
  other[9] = "8";
  EXPECT_NE(run(other).json()["ids"], a["ids"]);
  std::vector<std::string> biased = args;
  biased.insert(biased.end(), {"--logit-bias", "5:1000"});
  EXPECT_EQ(run(biased).json()["ids"], Json(std::vector<int>(20, 5)));
}

TEST(Generate, ContextOverflowIsAnErrorWithBothNumbers) {
  expect_one_error(run({"generate", mini(), "--ids", "0,1,2,3,4", "--context", "4"}), 1, "4");
  EXPECT_EQ(run({"generate", mini(), "--ids", "0,5", "--context", "8", "--ignore-eos", "--temperature", "0", "--json"})
                .json()["finish_reason"],
            "length");
}

TEST(Generate, IdsNeedNoTokenizerThatThisProgramKnows) {
  const Folder folder;
  std::string file = contents(find_golden("gguf/qwen2.Q4_0.gguf"));
  const std::size_t at = file.find("deepseek-r1-qwen");
  ASSERT_NE(at, std::string::npos);
  file.replace(at, 16, "deepseek-r9-qwen");
  write(folder / "unknown.gguf", file);
  const Ran ids =
      run({"generate", folder / "unknown.gguf", "--ids", "5,6,7", "--max-tokens", "4", "--temperature", "0", "--json"});
  ASSERT_EQ(ids.code, 0) << ids.err;
  EXPECT_TRUE(ids.json()["text"].is_null());
  EXPECT_EQ(ids.json()["ids"], run({"generate", find_golden("gguf/qwen2.Q4_0.gguf"), "--ids", "5,6,7", "--max-tokens",
                                    "4", "--temperature", "0", "--json"})
                                   .json()["ids"]);
  for (const char* command : {"ask", "generate"}) {
    const Ran words = std::string(command) == "ask" ? run({"ask", folder / "unknown.gguf", "Hello"})
                                                    : run({"generate", folder / "unknown.gguf", "--prompt", "Hello"});
    EXPECT_EQ(words.code, 1);
    EXPECT_NE(words.err.find("deepseek-r9-qwen"), std::string::npos) << words.err;
  }
}

TEST(Generate, CtrlCEndsItCleanly) {
  const Ran ran =
      run({"generate", mini(), "--ids", "0,5", "--ignore-eos", "--temperature", "0", "--max-tokens", "2000"},
          {.signal_after_output = SIGINT});
  EXPECT_EQ(ran.code, 130);
  EXPECT_FALSE(ran.out.empty());
}

// Against the logits that `sonde logits` gives for each window.
TEST(Perplexity, IsTheMeanOverWindows) {
  std::string text;
  for (const std::string& line : lines(contents(mini() + "/problems.jsonl")))
    text += Json::parse(line)["reasoning_content"].get<std::string>() + "\n";
  const Folder folder;
  write(folder / "text", text);
  const auto ids = run({"tokenize", mini(), "--text", text, "--json"}).json()["ids"].get<std::vector<int32_t>>();
  const int64_t window = 200, windows = 3;
  std::vector<int32_t> some(ids.begin(), ids.begin() + window * windows + 77);  // the last 77 are dropped
  ASSERT_TRUE(write_safetensors(folder / "ids",
                                {{"input_ids", {i32(), {int64_t(some.size())}, std::as_bytes(std::span(some))}}})
                  .ok());

  double sum = 0, squares = 0, half = 0;
  for (int64_t w = 0; w < windows; ++w) {
    const std::vector<int32_t> part(some.begin() + w * window, some.begin() + (w + 1) * window);
    ASSERT_EQ(run({"logits", mini(), "--ids", joined(part), "--out", folder / "logits"}).code, 0);
    const std::vector<float> logits = Expected::open(folder / "logits")->floats("logits");
    const int64_t vocabulary = int64_t(logits.size()) / window;
    for (int64_t i = 0; i + 1 < window; ++i) {
      double total = 0;
      for (int64_t v = 0; v < vocabulary; ++v) total += std::exp(double(logits[size_t(i * vocabulary + v)]));
      const double nll = std::log(total) - logits[size_t(i * vocabulary + part[size_t(i + 1)])];
      sum += nll, squares += nll * nll;
      if (i >= window / 2) half += nll;
    }
  }
  const double n = double(windows * (window - 1)), mean = sum / n;
  const Ran ran = run({"perplexity", mini(), "--ids-file", folder / "ids", "--window", "200", "--exact", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json j = ran.json();
  EXPECT_EQ(j["tokens"], some.size());
  EXPECT_EQ(j["windows"], windows);
  EXPECT_NEAR(j["mean_nll"], mean, 1e-9 * mean);
  EXPECT_NEAR(j["perplexity"], std::exp(mean), 1e-8 * std::exp(mean));
  EXPECT_NEAR(j["standard_error"], std::sqrt((squares / n - mean * mean) / (n - 1)), 1e-9);
  EXPECT_NEAR(j["second_half"]["mean_nll"], half / double(windows * (window / 2 - 1)), 1e-8);

  const Json whole = run({"perplexity", mini(), "--file", folder / "text", "--window", "200", "--exact", "--json"}).json();
  EXPECT_EQ(whole["tokens"], ids.size());
  EXPECT_EQ(whole["windows"], ids.size() / 200);
  expect_one_error(run({"perplexity", mini(), "--ids-file", folder / "ids", "--window", "4096"}), 1, "4096");
}

TEST(Convert, GivesTheSameModelInTheOtherForm) {
  const Folder folder;
  const Ran ran = run({"convert", mini(), "--to", "gguf", "--out", folder / "mini.gguf"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.out, "");
  const std::vector<std::string> rest = {"--prompt", "12 + 30", "-n", "20", "--temperature", "0", "--json"};
  std::vector<std::string> one = {"generate", mini()}, two = {"generate", folder / "mini.gguf"};
  one.insert(one.end(), rest.begin(), rest.end()), two.insert(two.end(), rest.begin(), rest.end());
  EXPECT_EQ(run(one).json()["ids"], run(two).json()["ids"]);
  EXPECT_EQ(run({"inspect", folder / "mini.gguf", "--json"}).json()["parameters"],
            run({"inspect", mini(), "--json"}).json()["parameters"]);
}

// A file of another kind stays as it is unless --force is given; one of the same kind, or an empty one, is replaced.
TEST(Out, OverwritesItsOwnKindAlone) {
  const Folder folder;
  const std::string text = "notes that nobody wants to lose\n";
  const std::vector<std::vector<std::string>> commands = {{"convert", mini(), "--to", "gguf"},
                                                          {"synth", "mini", "--type", "BF16", "--layers", "1"},
                                                          {"logits", mini(), "--ids", "1,2"}};
  for (std::vector<std::string> args : commands) {
    SCOPED_TRACE(args[0]);
    const std::string out = folder / "out";
    args.insert(args.end(), {"--out", out});
    const auto forced = [&] {
      auto all = args;
      all.push_back("--force");
      return run(all);
    };
    write(out, text);
    expect_one_error(run(args), 1, "--force");
    EXPECT_EQ(contents(out), text);
    ASSERT_EQ(forced().code, 0);
    const std::string whole = contents(out);
    EXPECT_NE(whole, text);
    EXPECT_EQ(run(args).code, 0);  // now of its kind
    EXPECT_EQ(contents(out).size(), whole.size());
    write(out, "");
    EXPECT_EQ(run(args).code, 0);
    EXPECT_EQ(contents(out).size(), whole.size());
    std::filesystem::remove(out);
    std::filesystem::create_directory(out);
    expect_one_error(forced(), 1, "folder");
    std::filesystem::remove(out);
    std::filesystem::create_symlink("/dev/null", out);
    expect_one_error(forced(), 1, "no file");
    std::filesystem::remove(out);
  }
  write(folder / "model.gguf", "GGUF");
  expect_one_error(run({"logits", mini(), "--ids", "1", "--out", folder / "model.gguf"}), 1, "another kind");
}

TEST(Plan, SaysWhatFitsAndRefusesWhatDoesNot) {
  const Ran ran = run({"plan", mini(), "--seconds", "0.02", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json j = ran.json();
  EXPECT_EQ(j["fits"], true);
  EXPECT_EQ(j["context"], 2048);
  EXPECT_GT(j["expected"]["decode_tokens_per_second"], 0);
  EXPECT_GE(j["memory"]["needed_bytes"].get<double>(), std::filesystem::file_size(mini() + "/model.safetensors"));
  if (!kSanitized) {
    const Ran large = run({"plan", mini(), "--seconds", "0.02", "--context", "2048", "--batch", "4096"},
                          {.memory_kib = kSmall});
    EXPECT_EQ(large.code, 1);
    EXPECT_NE(large.err.find("expected at most"), std::string::npos) << large.err;
    EXPECT_NE(large.err.find("found"), std::string::npos) << large.err;
  }
  expect_one_error(run({"plan", mini(), "--context", "1000000"}), 1, "1000000");
}

}  // namespace
}  // namespace sonde::test
