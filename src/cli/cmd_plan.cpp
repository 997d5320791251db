// sonde plan: memory, disk and speed before anything is loaded; refuses what cannot fit.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/cpu.h"
#include "base/memory.h"
#include "cli/command.h"
#include "cli/common_flags.h"
#include "cli/survey.h"
#include "engine/plan.h"
#include "kernels/kernels.h"
#include "kernels/peaks.h"

namespace sonde {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  ModelFlags model;
  int threads = 0, batch = 1;
  int64_t context = 0;
  double seconds = 2;  // of measuring the machine
  bool json = false;
};

// As an integer; beyond 2^62 bytes the exact number tells nothing.
int64_t whole(double bytes) { return static_cast<int64_t>(std::min(bytes, 0x1p62)); }
std::string size(int64_t bytes) { return bytes_text(static_cast<double>(bytes)); }

Result<int> plan(const Options& options) {
  SONDE_TRY(const std::string path, options.model.path());
  SONDE_TRY(const auto checkpoint, Checkpoint::open(path));
  Result<ModelConfig> read = ModelConfig::from_json(checkpoint->config());
  if (!read.ok()) return std::move(read).error().in(path);
  const ModelConfig& config = *read;
  const Survey s = survey(*checkpoint, &config, {.exact = checkpoint->file_bytes() < kFastFrom});
  if (s.tensors == 0)
    return Error{.code = Code::kInvalid, .what = "there are no weights, only a vocabulary", .where = path};

  EngineOptions engine;
  engine.context = options.context;
  engine.max_batch = options.batch;
  const int64_t available = memory_available();
  SONDE_TRY(const MemoryPlan memory, plan_memory({.config = config,
                                                  .layout = s.layout,
                                                  .weight_bytes = s.bytes,
                                                  .owned_bytes = s.owned_bytes,
                                                  .available = available},
                                                 engine));
  // What was asked for must fit whole: every sequence with its full context.
  const int64_t pages = (memory.context + kPageTokens - 1) / kPageTokens;
  const double cache =
      static_cast<double>(pages) * static_cast<double>(memory.page_bytes) * (options.context > 0 ? options.batch : 1);
  const double need = static_cast<double>(s.bytes + s.owned_bytes + memory.activation_bytes) + cache;
  const bool fits = need <= static_cast<double>(available);

  ThreadPool pool(options.threads);
  if (stderr_is_terminal()) notice(fmt::format("measuring the machine, {:g} s", options.seconds));
  const Peaks peaks = measure_peaks(pool, options.seconds);
  const MachinePeaks machine{peaks.dram_read_gbs * 1e9, peaks.fma_gflops * 1e9};
  const Speed empty = expected_speed(s.work, s.layout, 0, options.batch, machine);
  const Speed full = expected_speed(s.work, s.layout, memory.context, options.batch, machine);

  if (options.json) {
    print_line({{"path", path},
                {"fits", fits},
                {"context", memory.context},
                {"batch", options.batch},
                {"memory",
                 {{"needed_bytes", whole(need)},
                  {"available_bytes", available},
                  {"weight_bytes", s.bytes},
                  {"owned_bytes", s.owned_bytes},
                  {"activation_bytes", memory.activation_bytes},
                  {"kv_bytes", whole(cache)},
                  {"kv_bytes_per_token", memory.kv_bytes_per_token}}},
                {"disk", {{"file_bytes", checkpoint->file_bytes()}}},
                {"machine",
                 {{"cpu", cpu_name()},
                  {"kernels", kernel_set()},
                  {"threads", pool.size()},
                  {"dram_read_gb_per_second", peaks.dram_read_gbs},
                  {"fma_gflop_per_second", peaks.fma_gflops}}},
                {"expected",
                 {{"prefill_tokens_per_second", empty.prefill},
                  {"decode_tokens_per_second", empty.decode},
                  {"decode_tokens_per_second_full_context", full.decode},
                  {"binds", empty.memory_binds ? "memory" : "arithmetic"}}}});
  } else {
    const auto line = [](const char* name, const std::string& text) { print(fmt::format("{:<10} {}\n", name, text)); };
    std::string parameters = count_text(static_cast<double>(s.parameters)) + " parameters";
    if (config.n_routed_experts > 0)
      parameters += ", " + count_text(static_cast<double>(s.active_parameters)) + " active";
    line("model", config.model_type + ", " + parameters);
    line("memory", fmt::format("{} needed, {} available", bytes_text(need), size(available)));
    line("", fmt::format("{} weights, {} beside them, {} activations, {} cache", size(s.bytes), size(s.owned_bytes),
                         size(memory.activation_bytes), bytes_text(cache)));
    line("context", fmt::format("{} tokens, {} a token, batch {}", memory.context, size(memory.kv_bytes_per_token),
                                options.batch));
    line("disk", fmt::format("{} of files", size(checkpoint->file_bytes())));
    line("machine", fmt::format("{}, {} threads, {} kernels: {:.1f} GB/s, {:.0f} GFLOP/s", cpu_name(), pool.size(),
                                kernel_set(), peaks.dram_read_gbs, peaks.fma_gflops));
    line("speed",
         fmt::format("at best {:.3g} tokens/s decode ({:.3g} with a full context; {} binds), {:.3g} tokens/s prefill",
                     empty.decode, full.decode, empty.memory_binds ? "memory" : "arithmetic", empty.prefill));
  }
  if (fits) return kOk;
  return Error{.code = Code::kTooLarge,
               .what = "it does not fit into memory",
               .where = path,
               .expected = "at most " + size(available),
               .found = bytes_text(need),
               .hint = "a smaller --context or --batch needs less, a quantised file much less"};
}

Run setup(Args& args) {
  auto options = std::make_shared<Options>();
  options->model.declare(args);
  args.option("-c,--context", options->context,
              "tokens a sequence shall hold (default: the model's own, as far as memory allows)");
  args.option("-b,--batch", options->batch, "sequences at once (default 1)");
  args.option("-t,--threads", options->threads, "compute threads (default: as many as the process may use)");
  args.option("--seconds", options->seconds, "of measuring the machine (default 2)");
  declare_json(args, options->json);
  return [options] {
    if (!(options->seconds >= 0.01 && options->seconds <= 600))
      return usage_error("--seconds is out of range 0.01 to 600");
    if (options->context < 0) return usage_error("--context is negative");
    if (options->batch < 1 || options->batch > 4096) return usage_error("--batch is out of range 1 to 4096");
    if (options->threads < 0 || options->threads > 4096) return usage_error("--threads is out of range 1 to 4096");
    return finish(plan(*options));
  };
}

}  // namespace

extern const Command cmd_plan = {"plan", "MODEL [--context N] [--batch N] [--json]",
                                 "memory, disk and speed before loading",
                                 "  sonde plan DeepSeek-V2-Lite-Chat/\n"
                                 "  sonde plan DeepSeek-R1-Q2_K-00001-of-00005.gguf --context 32768 --batch 4 --json\n",
                                 setup};

}  // namespace sonde
