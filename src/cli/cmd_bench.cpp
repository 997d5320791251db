// sonde bench: tokens per second, beside what the machine can do at best.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/random.h"
#include "cli/command.h"
#include "cli/direct.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/survey.h"
#include "kernels/kernels.h"
#include "kernels/peaks.h"

namespace sonde {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

struct Options {
  ModelFlags model;
  RunFlags run;
  int64_t prompt = 512, tokens = 64;
  std::vector<int64_t> batches = {1}, depths = {0};
  bool json = false;
};

constexpr double kProbeSeconds = 2, kLeastSeconds = 0.5;
constexpr int64_t kPrefillChunk = 512;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Starts VmHWM afresh (proc(5), clear_refs); where that is not allowed, the probe's buffer counts.
void forget_peak_resident() {
  if (std::FILE* file = std::fopen("/proc/self/clear_refs", "w")) {
    std::fputs("5", file);
    std::fclose(file);
  }
}

struct Measurement {
  const char* what;  // "prefill", "decode"
  int64_t batch, depth, tokens;
  double seconds, bytes, flops;

  double rate() const { return static_cast<double>(tokens) / seconds; }
  double gbs() const { return bytes / seconds / 1e9; }
  double gflops() const { return flops / seconds / 1e9; }
};

class Bench {
 public:
  Bench(DirectModel& direct, const Options& options)
      : direct_(direct), options_(options), survey_(survey(*direct.checkpoint, &direct.model->config())) {}

  // The first step, which also brings the file's pages in.
  Result<double> warm_up() {
    SONDE_TRY(const Pages pages, Pages::make(layout(), kPageTokens));
    const Clock::time_point start = Clock::now();
    const std::vector<int32_t> ids = random_ids(1);
    const SequenceChunk chunk{ids, 0, pages.all(), true, Logits::kLast};
    direct_.model->forward(*direct_.pool, std::span(&chunk, 1), out_);
    return since(start);
  }

  Result<Measurement> prefill(int64_t depth) {
    Measurement m{"prefill", 1, depth, 0, 0, 0, 0};
    SONDE_TRY(const Pages pages, filled(depth + options_.prompt, depth));
    const std::vector<int32_t> ids = random_ids(options_.prompt);
    ProgressLine progress(fmt::format("prefill at depth {}", depth), options_.prompt, "tokens");
    do {
      for (int64_t done = 0; done < options_.prompt; done += kPrefillChunk) {
        const int64_t n = std::min(kPrefillChunk, options_.prompt - done);
        const SequenceChunk chunk{std::span(ids).subspan(size_t(done), size_t(n)), depth + done, pages.all(),
                                  options_.run.reproducible,
                                  done + n == options_.prompt ? Logits::kLast : Logits::kNone};
        SONDE_CHECK(step(std::span(&chunk, 1), m));
        m.tokens += n;
        m.bytes += survey_.step_bytes(config(), n) + kv_bytes(depth + done);
        progress.update(done + n);
      }
    } while (m.seconds < kLeastSeconds);
    m.flops = 2.0 * static_cast<double>(survey_.work.weights) * static_cast<double>(m.tokens);
    return m;
  }

  Result<Measurement> decode(int64_t batch, int64_t depth) {
    Measurement m{"decode", batch, depth, 0, 0, 0, 0};
    std::vector<Pages> pages;
    for (int64_t b = 0; b < batch; ++b) {
      SONDE_TRY(Pages own, filled(depth + options_.tokens, depth));
      pages.push_back(std::move(own));
    }
    ProgressLine progress(fmt::format("decode, batch {}, depth {}", batch, depth), options_.tokens, "steps");
    do {
      for (int64_t i = 0; i < options_.tokens; ++i) {
        const std::vector<int32_t> ids = random_ids(batch);
        std::vector<SequenceChunk> chunks;
        for (int64_t b = 0; b < batch; ++b)
          chunks.push_back(
              {std::span(ids).subspan(size_t(b), 1), depth + i, pages[size_t(b)].all(), true, Logits::kLast});
        SONDE_CHECK(step(chunks, m));
        m.tokens += batch;
        m.bytes += survey_.step_bytes(config(), batch) + static_cast<double>(batch) * kv_bytes(depth + i);
        progress.update(i + 1);
      }
    } while (m.seconds < kLeastSeconds);
    m.flops = 2.0 * static_cast<double>(survey_.work.weights) * static_cast<double>(m.tokens);
    return m;
  }

  const Survey& tensors() const { return survey_; }

 private:
  const ModelConfig& config() const { return direct_.model->config(); }
  KvLayout layout() const { return direct_.model->kv_layout(); }
  // Of the main layers; decode does not read the MTP layer's.
  double kv_bytes(int64_t tokens) const {
    return static_cast<double>(config().num_hidden_layers * layout().record * layout().type->bytes * tokens);
  }

  Status step(std::span<const SequenceChunk> chunks, Measurement& m) {
    const Clock::time_point start = Clock::now();
    direct_.model->forward(*direct_.pool, chunks, out_);
    m.seconds += since(start);
    if (Interrupt::requested()) return Error{.code = Code::kCancelled, .what = "stopped"};
    return {};
  }

  std::vector<int32_t> random_ids(int64_t n) {
    std::vector<int32_t> ids(static_cast<std::size_t>(n));
    for (int32_t& id : ids) id = static_cast<int32_t>(random_.next_u64() % static_cast<uint64_t>(config().vocab_size));
    return ids;
  }

  // Pages whose first `depth` tokens are random: how long attention takes does not depend on what it reads.
  Result<Pages> filled(int64_t tokens, int64_t depth) {
    SONDE_TRY(Pages pages, Pages::make(layout(), tokens));
    const KvLayout form = layout();
    std::vector<float> values(static_cast<std::size_t>(form.layers * kPageTokens * form.record));
    for (int64_t p = 0; p * kPageTokens < depth; ++p) {
      for (float& value : values) value = static_cast<float>(random_.next_u32()) * 0x1p-32f - 0.5f;
      form.type->pack(values.data(), static_cast<int64_t>(values.size()), pages.all()[size_t(p)]);
    }
    return pages;
  }

  DirectModel& direct_;
  const Options& options_;
  const Survey survey_;
  Random random_{1};
  ForwardResult out_;
};

Json to_json(const Measurement& m, const Peaks& peaks) {
  return {{"what", m.what},
          {"batch", m.batch},
          {"depth", m.depth},
          {"tokens", m.tokens},
          {"seconds", m.seconds},
          {"tokens_per_second", m.rate()},
          {"gb_per_second", m.gbs()},
          {"gflop_per_second", m.gflops()},
          {"of_dram_peak", m.gbs() / peaks.dram_read_gbs},
          {"of_fma_peak", m.gflops() / peaks.fma_gflops}};
}

void print_row(const Measurement& m, const Peaks& peaks) {
  print(fmt::format("{:<8} {:>5} {:>7} {:>10.2f} {:>9.2f} ({:>3.0f} %) {:>9.1f} ({:>3.0f} %)\n", m.what, m.batch,
                    m.depth, m.rate(), m.gbs(), 100 * m.gbs() / peaks.dram_read_gbs, m.gflops(),
                    100 * m.gflops() / peaks.fma_gflops));
  flush();
}

Result<int> bench(const Options& options) {
  SONDE_CHECK(options.run.check());
  SONDE_TRY(const std::string path, options.model.path_or_embedded());
  const Clock::time_point start = Clock::now();
  SONDE_TRY(DirectModel direct, open_direct(path, options.run));
  const double load_seconds = since(start);
  const Interrupt interrupt;
  if (stderr_is_terminal()) notice("measuring the machine, 2 s");
  const Peaks peaks = measure_peaks(*direct.pool, kProbeSeconds);
  forget_peak_resident();  // the probe's buffer is no part of the model's memory
  const ThreadPool::Awake awake(*direct.pool);
  Bench bench(direct, options);
  SONDE_TRY(const double first_seconds, bench.warm_up());

  const ModelConfig& config = direct.model->config();
  if (!options.json) {
    print(fmt::format("machine   {}, {} threads, {} kernels\n", cpu_name(), direct.pool->size(), kernel_set()));
    print(fmt::format("peaks     {:.1f} GB/s read, {:.0f} GFLOP/s FP32 FMA, {:.0f} Gop/s int8 dot\n",
                      peaks.dram_read_gbs, peaks.fma_gflops, peaks.int8_gops));
    print(fmt::format("model     {}, {} parameters, {} active; {} read a token\n", config.model_type,
                      count_text(static_cast<double>(bench.tensors().parameters)),
                      count_text(static_cast<double>(bench.tensors().active_parameters)),
                      bytes_text(static_cast<double>(bench.tensors().work.bytes))));
    print(fmt::format("load      {}, first token {}\n\n", seconds_text(load_seconds), seconds_text(first_seconds)));
    print(fmt::format("{:<8} {:>5} {:>7} {:>10} {:>9} {:>7} {:>9} {:>7}\n", "", "batch", "depth", "tokens/s", "GB/s",
                      "of peak", "GFLOP/s", "of peak"));
    flush();
  }
  Json results = Json::array(), skipped = Json::array();
  const auto add = [&](const Measurement& m) {
    if (options.json)
      results.push_back(to_json(m, peaks));
    else
      print_row(m, peaks);
  };
  for (const int64_t depth : options.depths) {
    if (const int64_t need = depth + std::max(options.prompt, options.tokens);
        direct.context > 0 && need > direct.context) {
      notice(
          fmt::format("depth {} is skipped: {} tokens are more than the context of {}", depth, need, direct.context));
      skipped.push_back(depth);
      continue;
    }
    if (options.prompt > 0) {
      SONDE_TRY(const Measurement m, bench.prefill(depth));
      add(m);
    }
    for (const int64_t batch : options.batches) {
      if (options.tokens == 0) continue;
      SONDE_TRY(const Measurement m, bench.decode(batch, depth));
      add(m);
    }
  }
  if (options.json) {
    print_line({{"path", path},
                {"model_type", config.model_type},
                {"machine", {{"cpu", cpu_name()}, {"kernels", kernel_set()}, {"threads", direct.pool->size()}}},
                {"peaks",
                 {{"dram_read_gb_per_second", peaks.dram_read_gbs},
                  {"fma_gflop_per_second", peaks.fma_gflops},
                  {"int8_gop_per_second", peaks.int8_gops}}},
                {"load_seconds", load_seconds},
                {"first_token_seconds", first_seconds},
                {"peak_memory_bytes", peak_resident()},
                {"bytes_per_token", bench.tensors().work.bytes},
                {"weights_per_token", bench.tensors().work.weights},
                {"kv_bytes_per_token",
                 direct.model->kv_layout().token_bytes()},
                {"results", results},
                {"skipped_depths", skipped}});
  } else {
    print(fmt::format("\npeak memory {}\n", bytes_text(static_cast<double>(peak_resident()))));
  }
  return kOk;
}

Run setup(Args& args) {
  auto options = std::make_shared<Options>();
  options->model.declare(args);
  args.option("-p,--prompt", options->prompt, "tokens of a prompt (default 512); 0: no prefill");
  args.option("-n,--tokens", options->tokens, "tokens to decode, of each sequence (default 64); 0: no decode");
  args.list("--batch", options->batches, "sequences at once, as in 1,8 (default 1)");
  args.list("--depth", options->depths, "tokens in the cache before, as in 0,4096 (default 0)");
  declare_json(args, options->json);
  options->run.declare(args);
  return [options] {
    const auto within = [](int64_t v, int64_t least, int64_t most) { return v >= least && v <= most; };
    if (!within(options->prompt, 0, 1 << 24) || !within(options->tokens, 0, 1 << 24))
      return usage_error("-p and -n are 0 or above");
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
                                  "[MODEL] [-p 512] [-n 64] [-t THREADS] [--batch 1,8] [--depth 0,4096] [--json]",
                                  "tokens per second beside the machine's peaks",
                                  "  sonde bench model.gguf\n"
                                  "  sonde bench model.gguf -p 512 -n 64 --batch 1,8 --depth 0,4096 --json\n",
                                  setup};

}  // namespace sonde
