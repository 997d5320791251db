// sonde bench: tokens per second, beside what the machine can do at best.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/cpu.h"
#include "base/memory.h"
#include "cli/bench.h"
#include "cli/bench_drafts.h"
#include "cli/bench_report.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "kernels/kernels.h"

namespace sonde {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

constexpr double kAgain = 0.2;  // of the time at the start: measuring the machine after each result

// VmHWM without what probes take: it is started afresh after each (proc(5), clear_refs); where that is not allowed, their
// buffer counts.
class PeakResident {
 public:
  template <class F>
  auto without(F&& probe) {
    most_ = std::max(most_, peak_resident());
    const auto result = probe();
    if (std::FILE* file = std::fopen("/proc/self/clear_refs", "w")) {
      std::fputs("5", file);
      std::fclose(file);
    }
    return result;
  }
  int64_t bytes() const { return std::max(most_, peak_resident()); }

 private:
  int64_t most_ = 0;
};

Result<int> bench(const BenchOptions& options) {
  SONDE_CHECK(options.run.check());
  SONDE_TRY(const std::string path, options.model.path_or_embedded());
  const Clock::time_point start = Clock::now();
  SONDE_TRY(DirectModel direct, open_direct(path, options.run));
  const double load_seconds = std::chrono::duration<double>(Clock::now() - start).count();
  const Interrupt interrupt;
  if (stderr_is_terminal()) notice(fmt::format("measuring the machine, {:g} s", options.seconds));
  PeakResident resident;
  const Peaks peaks = resident.without([&] { return measure_peaks(*direct.pool, options.seconds); });
  const ThreadPool::Awake awake(*direct.pool);
  Bench bench(direct, options);
  SONDE_TRY(const double first_seconds, bench.warm_up());

  const ModelConfig& config = direct.model->config();
  if (!options.json) {
    const std::string kind = cpu_class().empty() ? "" : ", class " + cpu_class();
    print(fmt::format("machine   {}{}, {} threads, {} kernels\n", cpu_name(), kind, direct.pool->size(), kernel_set()));
    const std::string pairs = peaks.bf16_gflops > 0 ? fmt::format(", {:.0f} GFLOP/s BF16 dot", peaks.bf16_gflops) : "";
    const std::string join = peaks.fork_join_us > 0 ? fmt::format(", fork-join {:.2f} us", peaks.fork_join_us) : "";
    print(fmt::format("peaks     {:.1f} GB/s read ({:.1f} on average), {:.0f} GFLOP/s FP32 FMA{}, {:.0f} Gop/s int8 dot{}\n",
                      peaks.dram_read_gbs, peaks.dram_mean_gbs, peaks.fma_gflops, pairs, peaks.int8_gops, join));
    print(fmt::format("model     {}, {} parameters, {} active; {} read a token\n", config.model_type,
                      count_text(static_cast<double>(bench.tensors().parameters)),
                      count_text(static_cast<double>(bench.tensors().active_parameters)),
                      bytes_text(static_cast<double>(bench.tensors().work.bytes))));
    print(fmt::format("load      {}, first token {}\n\n", seconds_text(load_seconds), seconds_text(first_seconds)));
    print_heading();
  }
  Json results = Json::array(), skipped = Json::array();
  Peaks last = peaks;
  const auto add = [&](Measurement m) {
    m.before = last;
    m.after = last = resident.without([&] { return measure_peaks(*direct.pool, kAgain * options.seconds); });
    if (options.json)
      results.push_back(to_json(m));
    else
      print_row(m);
  };
  for (const int64_t depth : options.depths) {
    if (const int64_t need = depth + std::max(options.prompt, options.tokens);
        direct.context > 0 && need > direct.context) {
      notice(
          fmt::format("depth {} is skipped: {} tokens are more than the context of {}", depth, need, direct.context));
      skipped.push_back(depth);
      continue;
    }
    for (const int64_t chunk : options.chunks) {
      if (options.prompt == 0) continue;
      SONDE_TRY(const Measurement plain, bench.prefill(depth, chunk, /*one_form=*/false));
      add(plain);
      if (options.run.reproducible) {  // and what that costs
        SONDE_TRY(Measurement m, bench.prefill(depth, chunk, /*one_form=*/true));
        m.of_plain = m.rate() / plain.rate();
        add(m);
      }
    }
    for (const int64_t batch : options.batches) {
      if (options.tokens == 0) continue;
      SONDE_TRY(const Measurement m, bench.decode(batch, depth));
      add(m);
    }
  }
  std::optional<DraftMeasurement> drafts;
  if (options.run.engine_options().draft != 0 && options.tokens > 1) {
    if (const int64_t need = std::max<int64_t>(options.prompt, 1) + options.tokens;
        direct.context > 0 && need > direct.context) {
      notice(fmt::format("drafts are skipped: {} tokens are more than the context of {}", need, direct.context));
    } else {
      SONDE_TRY(drafts, measure_drafts(direct, options));
      if (!options.json) print_drafts(*drafts);
    }
  }
  // Now: the weights have come in, and caches are gone.
  const ResidentParts parts = resident_parts();
  int64_t source = 0;
  for (const Checkpoint::WeightFile& file : direct.checkpoint->weight_files()) source += resident_of_file(file.path);
  if (options.json) {
    Json line = {{"path", path},
                {"model_type", config.model_type},
                {"machine", {{"cpu", cpu_name()}, {"class", cpu_class()}, {"kernels", kernel_set()}, {"threads", direct.pool->size()}}},
                {"peaks",
                 {{"dram_read_gb_per_second", peaks.dram_read_gbs},
                  {"dram_mean_gb_per_second", peaks.dram_mean_gbs},
                  {"fma_gflop_per_second", peaks.fma_gflops},
                  {"int8_gop_per_second", peaks.int8_gops},
                  {"bf16_gflop_per_second", peaks.bf16_gflops},
                  {"fork_join_us", peaks.fork_join_us}}},
                {"arithmetic", name_of(bench.arithmetic())},  // of most operations of an answer
                {"load_seconds", load_seconds},
                {"first_token_seconds", first_seconds},
                {"peak_memory_bytes", resident.bytes()},
                {"memory", {{"own", parts.own}, {"of_model_files", source}, {"of_other_files", parts.files - source}}},
                {"packed_bytes", direct.model->packed().bytes},
                {"bytes_per_token", bench.tensors().work.bytes},
                {"weights_per_token", bench.tensors().work.weights},
                {"kv_bytes_per_token",
                 direct.model->kv_layout().token_bytes()},
                {"results", results},
                {"skipped_depths", skipped}};
    if (drafts) line["drafts"] = to_json(*drafts);
    print_line(line);
  } else {
    const auto text = [](int64_t bytes) { return bytes_text(static_cast<double>(bytes)); };
    print(fmt::format("\nmemory    {} at most; now {} of its own, {} mapped of the model's files, {} of others; packed weights {}\n",
                      text(resident.bytes()), text(parts.own), text(source), text(parts.files - source),
                      text(direct.model->packed().bytes)));
  }
  return kOk;
}

Run setup(Args& args) {
  auto options = std::make_shared<BenchOptions>();
  options->model.declare(args);
  args.option("-p,--prompt", options->prompt, "tokens of a prompt (default 512); 0: no prefill");
  args.list("--chunk", options->chunks, "tokens of it in one step, as in 256,512,1024 (default 1024)");
  args.option("-n,--tokens", options->tokens,
              "tokens to decode, of each sequence (default 64), chosen greedily unless --temperature is given; 0: no decode");
  args.list("--batch", options->batches, "sequences at once, as in 1,8 (default 1)");
  args.list("--depth", options->depths, "tokens in the cache before, as in 0,4096 (default 0)");
  args.option("--seconds", options->seconds,
              "of measuring the machine first, a fifth of that after each result, which takes a quarter at least (default 2)");
  args.flag("--profile", options->profile, "time, threads' waiting for the last, bytes and operations of every kind of operation");
  declare_json(args, options->json);
  options->run.draft = "off";  // else an answer to a text that repeats itself is drafted, too
  options->run.declare(args);
  return [options] {
    const auto within = [](int64_t v, int64_t least, int64_t most) { return v >= least && v <= most; };
    if (!within(options->prompt, 0, 1 << 24) || !within(options->tokens, 0, 1 << 24))
      return usage_error("-p and -n are 0 or above");
    if (!(options->seconds >= 0.01 && options->seconds <= 600))
      return usage_error(fmt::format("--seconds {:g} is out of range 0.01 to 600", options->seconds));
    for (int64_t& chunk : options->chunks) {
      if (!within(chunk, 1, 1 << 20))
        return usage_error(fmt::format("--chunk {} is out of range 1 to 1048576", chunk));
      chunk = (chunk + kPageTokens - 1) / kPageTokens * kPageTokens;
    }
    for (const int64_t b : options->batches)
      if (!within(b, 1, 4096)) return usage_error(fmt::format("--batch {} is out of range 1 to 4096", b));
    for (const int64_t d : options->depths)
      if (!within(d, 0, int64_t{1} << 30))
        return usage_error(fmt::format("--depth {} is out of range: 0 and above", d));
    return finish(bench(*options));
  };
}

}  // namespace

extern const Command cmd_bench = {"bench",
                                  "[MODEL] [-p 512] [-n 64] [-t THREADS] [--batch 1,8] [--depth 0,4096] [--chunk 1024] "
                                  "[--draft auto] [--profile] [--json]",
                                  "tokens per second beside the machine's peaks",
                                  "  sonde bench model.gguf\n"
                                  "  sonde bench model.gguf --profile -p 0 --depth 4096\n"
                                  "  sonde bench model.gguf --reproducible -n 0\n"
                                  "  sonde bench model.gguf -p 4096 -n 0 --chunk 256,512,1024,2048\n"
                                  "  sonde bench model.gguf -n 256 --draft auto     # and an answer to a text that repeats itself\n"
                                  "  sonde bench model.gguf -p 512 -n 64 --batch 1,8 --depth 0,4096 --json\n",
                                  setup};

}  // namespace sonde
