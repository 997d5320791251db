// sonde bench: speeds beside the peaks, and where the time goes.
#include <fstream>
#include <map>

#include "cli/program.h"
#include "files/safetensors.h"

namespace sonde::test {
namespace {

// Figures are not what these tests are about: measuring lasts as long as it must.
Ran bench(std::vector<std::string> args, const char* seconds = "0.02") {
  args.insert(args.begin(), {"bench", "--seconds", seconds});
  return run(std::move(args));
}

TEST(Bench, MeasuresBesideThePeaks) {
  const Ran ran = bench({"-p", "40", "-n", "4", "--batch", "1,3", "--depth", "0,100,100000", "--json"}, "0.1");
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_NE(ran.err.find("embedded default"), std::string::npos);
  EXPECT_NE(ran.err.find("100000"), std::string::npos);
  const Json j = ran.json();
  EXPECT_EQ(j["skipped_depths"], Json::array({100000}));
  ASSERT_EQ(j["results"].size(), 6u);  // two depths: prefill, and decode of two batches
  for (const Json& result : j["results"]) {
    EXPECT_GT(result["tokens_per_second"], 0);
    EXPECT_GT(result["gb_per_second"], 0);
    EXPECT_GT(result["of_int8_peak"], 0);
    ASSERT_EQ(result["dram_read_gb_per_second"].size(), 2u);  // before and after
    const double memory = result["dram_read_gb_per_second"][0].get<double>() + result["dram_read_gb_per_second"][1].get<double>();
    EXPECT_NEAR(result["of_dram_peak"].get<double>() * memory / 2, result["gb_per_second"].get<double>(), 1e-6 * memory);
    EXPECT_GE(result["of_dram_mean"], result["of_dram_peak"]);
    const Json& steps = result["step_seconds"];
    EXPECT_GT(steps["p10"], 0);
    EXPECT_GE(steps["p50"], steps["p10"]);
    EXPECT_GE(steps["p90"], steps["p50"]);
    EXPECT_LE(steps["p10"], result["seconds"]);
    EXPECT_FALSE(result.contains("operations"));
    EXPECT_LT(result["gflop_per_second"], 1.1 * j["peaks"]["fma_gflop_per_second"].get<double>());
  }
  EXPECT_EQ(j["arithmetic"], "fp32");  // so small a file takes the exact path
  const Json& memory = j["memory"];
  for (const char* part : {"own", "of_model_files", "of_other_files"}) EXPECT_GT(memory[part], 0) << part;
  const int64_t now = memory["own"].get<int64_t>() + memory["of_model_files"].get<int64_t>() + memory["of_other_files"].get<int64_t>();
  EXPECT_LE(now, 1.02 * j["peak_memory_bytes"].get<double>());  // the system counts pages in batches
  EXPECT_EQ(j["packed_bytes"], 0);
  EXPECT_EQ(j["peaks"]["fork_join_us"] > 0, j["machine"]["threads"] > 1);
}

TEST(Bench, SaysWhatReproducibleCosts) {
  const Ran ran = bench({mini(), "-p", "96", "-n", "2", "--reproducible", "--fast", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json results = ran.json()["results"];
  ASSERT_EQ(results.size(), 3u);  // prefill in both forms, decode
  EXPECT_EQ(results[0]["reproducible"], false);
  EXPECT_EQ(results[1]["reproducible"], true);
  EXPECT_FALSE(results[0].contains("of_plain_speed"));
  EXPECT_NEAR(results[1]["of_plain_speed"].get<double>(),
              results[1]["tokens_per_second"].get<double>() / results[0]["tokens_per_second"].get<double>(), 1e-9);
}

TEST(Bench, ReadsPromptsInStepsOfEverySizeThatIsAskedFor) {
  const Ran ran = bench({mini(), "-p", "96", "-n", "0", "--chunk", "20,64,2048", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json results = ran.json()["results"];
  ASSERT_EQ(results.size(), 3u);
  const int64_t chunks[] = {32, 64, 96};  // whole pages; no more than the prompt
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(results[i]["what"], "prefill");
    EXPECT_EQ(results[i]["chunk"], chunks[i]);
  }
}

// Random texts cannot be guessed, so drafts are measured on one that repeats itself; not unless they are asked for.
TEST(Bench, DraftsWhereItIsAskedTo) {
  EXPECT_FALSE(bench({mini(), "-p", "40", "-n", "2", "--json"}).json().contains("drafts"));
  for (const char* draft : {"3", "auto"}) {
    const Ran ran = bench({mini(), "-p", "200", "-n", "40", "--draft", draft, "--json"});
    ASSERT_EQ(ran.code, 0) << ran.err;
    const Json drafts = ran.json()["drafts"];
    EXPECT_EQ(drafts["draft"], draft);
    EXPECT_EQ(drafts["mtp"], true);
    EXPECT_EQ(drafts["text"], "words");
    EXPECT_EQ(drafts["prompt_tokens"], 200);
    EXPECT_EQ(drafts["tokens"], 2 * 39);
    EXPECT_LE(drafts["accepted_tokens"], drafts["drafted_tokens"]);
    EXPECT_EQ(drafts["drafted_tokens"] > 0 || drafts["draft"] == "auto", true);
    EXPECT_NEAR(drafts["of_plain_speed"].get<double>(),
                drafts["tokens_per_second"].get<double>() / drafts["plain_tokens_per_second"].get<double>(), 1e-9);
  }
  const Ran text = bench({mini(), "-p", "40", "-n", "4", "--draft", "2"});
  EXPECT_NE(text.out.find("\ndrafts    --draft 2, words that repeat"), std::string::npos) << text.out;
  const Ran longer = bench({mini(), "-p", "60", "-n", "4", "--depth", "9999", "--draft", "2", "-c", "61", "--json"});
  EXPECT_FALSE(longer.json().contains("drafts"));
  EXPECT_NE(longer.err.find("drafts are skipped"), std::string::npos);
}

// Products of queries with keys and of weights with values count, beside the weights' own.
TEST(Bench, CountsTheOperationsOfAttention) {
  double flops[2];
  for (const int depth : {0, 320}) {
    const Ran ran = bench({mini(), "-p", "0", "-n", "4", "--depth", std::to_string(depth), "--json"});
    ASSERT_EQ(ran.code, 0) << ran.err;
    const Json result = ran.json()["results"][0];
    flops[depth > 0] = 1e9 * result["gflop_per_second"].get<double>() * result["seconds"].get<double>() / result["tokens"].get<double>();
  }
  const Json config = Json::parse(std::ifstream(mini() + "/config.json"));
  const auto of = [&](const char* key) { return config[key].get<double>(); };
  const double width = 2 * of("kv_lora_rank") + of("qk_rope_head_dim");
  EXPECT_NEAR(flops[1] - flops[0], 2 * 320 * of("num_hidden_layers") * of("num_attention_heads") * width, 1e-6 * flops[1]);
}

// Bytes of the mini model's matrices whose names end so, the MTP layer's left out, times `share`.
class Tensors {
 public:
  Tensors() : file_(open_safetensors(mini() + "/model.safetensors")) {}
  double bytes(const std::string& part, double share = 1) const {
    double sum = 0;
    for (const auto& [name, tensor] : file_->tensors)
      if (name.find(part) != std::string::npos && !name.starts_with("model.layers.5.")) sum += share * tensor.bytes.size();
    return sum;
  }

 private:
  Result<Safetensors> file_;
};

std::map<std::string, Json> by_name(const Json& operations) {
  std::map<std::string, Json> all;
  for (const Json& o : operations) all[o["name"]] = o;
  EXPECT_EQ(all.size(), operations.size()) << operations;
  return all;
}

TEST(Bench, ProfileAccountsForTimeAndBytes) {
  for (const bool exact : {false, true}) {
    SCOPED_TRACE(exact);
    std::vector<std::string> args = {mini(), "-p", "40", "-n", "4", "--profile", "--json"};
    args.push_back(exact ? "--exact" : "--fast");
    const Ran ran = bench(args);
    ASSERT_EQ(ran.code, 0) << ran.err;
    const Json j = ran.json();
    ASSERT_EQ(j["results"].size(), 2u);
    for (const Json& result : j["results"]) {
      double seconds = 0, waiting = 0, shares = 0;
      for (const Json& o : result["operations"]) {
        SCOPED_TRACE(o.dump());
        EXPECT_GE(o["seconds"], 0);
        EXPECT_GE(o["seconds"].get<double>() + 1e-9, o["waiting_seconds"].get<double>());
        EXPECT_LE(o["waiting_share"].get<double>(), 1 + 1e-9);
        seconds += o["seconds"].get<double>(), waiting += o["waiting_seconds"].get<double>();
        shares += o["share"].get<double>();
      }
      const auto all = result["seconds"].get<double>(), bound = all * (1 + 1e-9) + 1e-6;
      EXPECT_LE(seconds, bound);
      EXPECT_GT(shares, 0.99);  // "other" fills what no operation took
      EXPECT_NEAR(waiting, result["waiting_seconds"].get<double>(), 1e-9 * all);
      EXPECT_EQ(result["operations"].back()["name"], "other");
    }

    // Decoding one sequence reads every matrix once a token: 2 of 8 experts, and the shared one.
    const Tensors file;
    const double tokens = j["results"][1]["tokens"].get<double>();
    std::map<std::string, Json> all = by_name(j["results"][1]["operations"]);
    const auto bytes = [&](const char* name) { return all[name]["bytes"].get<double>() / tokens; };
    EXPECT_EQ(bytes("q_a, latent"), file.bytes("q_a_proj") + file.bytes("kv_a_proj_with_mqa"));
    EXPECT_EQ(bytes("q_b"), file.bytes("q_b_proj"));
    EXPECT_EQ(bytes("o"), file.bytes("o_proj"));
    EXPECT_EQ(bytes("gate+up"), file.bytes("mlp.gate_proj") + file.bytes("mlp.up_proj"));
    EXPECT_EQ(bytes("down"), file.bytes("mlp.down_proj"));
    EXPECT_EQ(bytes("router"), file.bytes("mlp.gate.weight"));
    double gates = 0, downs = file.bytes("shared_experts.down_proj");
    for (int e = 0; e < 8; ++e) {
      const std::string expert = "mlp.experts." + std::to_string(e);
      gates += file.bytes(expert + ".gate_proj", 0.25) + file.bytes(expert + ".up_proj", 0.25);
      downs += file.bytes(expert + ".down_proj", 0.25);
    }
    gates += file.bytes("shared_experts.gate_proj") + file.bytes("shared_experts.up_proj");
    EXPECT_EQ(bytes("experts, shared gate+up"), gates);
    EXPECT_EQ(bytes("experts, shared down"), downs);
    EXPECT_EQ(bytes("head"), file.bytes("lm_head"));
    EXPECT_EQ(bytes("embedding"), file.bytes("embed_tokens") / 1024);
    EXPECT_EQ(all["head"]["flops"].get<double>() / tokens, 2.0 * 1024 * 192);
    EXPECT_EQ(all["head"]["calls"].get<double>(), tokens);
    EXPECT_EQ(all["norms"]["calls"].get<double>(), tokens * (5 * 4 + 1));
    // The cache at depths 0 to 3: 1 + 2 + 3 + 4 records of 64 + 16 values in each of 5 layers.
    EXPECT_EQ(bytes("attention"), 2.5 * 5 * (64 + 16) * (exact ? 4 : 2));
  }
}

TEST(Bench, PackedWeightsCountAsBytes) {
  const std::string file = find_golden("gguf/v2-lite-joined.Q8_0.gguf");
  ASSERT_FALSE(file.empty());
  for (const bool exact : {false, true}) {
    std::vector<std::string> args = {file, "-p", "0", "-n", "2", "--profile", "--json"};
    args.push_back(exact ? "--exact" : "--fast");
    const Ran ran = bench(args);
    ASSERT_EQ(ran.code, 0) << ran.err;
    const Json j = ran.json();
    EXPECT_EQ(j["arithmetic"], exact ? "fp32" : "int8");
    EXPECT_EQ(j["results"][0]["arithmetic"], j["arithmetic"]);
    std::map<std::string, Json> all = by_name(j["results"][0]["operations"]);
    EXPECT_EQ(all["o"]["int8_operations"] > 0, !exact);
    EXPECT_EQ(all["o"]["flops"] > 0, exact);
    EXPECT_EQ(all.contains("rounding of x"), !exact);
  }
}

TEST(Bench, PrintsATableUnderEachPhase) {
  const Ran ran = bench({mini(), "-p", "8", "-n", "2", "--profile"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.out.rfind("machine   ", 0), 0u);
  int tables = 0, others = 0;
  for (const std::string& line : lines(ran.out)) {
    tables += line.find("waiting ms") != std::string::npos, others += line.rfind("    other ", 0) == 0;
  }
  EXPECT_EQ(tables, 2);
  EXPECT_EQ(others, 2);
}

}  // namespace
}  // namespace sonde::test
