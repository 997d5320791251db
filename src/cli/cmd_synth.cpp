// sonde synth: a file of random weights in the shape of a published model.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/common_flags.h"
#include "cli/interrupt.h"
#include "cli/out_file.h"
#include "cli/progress.h"
#include "files/synth.h"

namespace sonde {
namespace {

struct Options {
  std::string shape, type;
  OutFile out;
  std::optional<int64_t> layers;
  std::optional<uint64_t> seed;
  bool no_mtp = false, json = false;
};

Result<int> synth(const Options& options) {
  if (options.shape.empty())
    return usage_mistake(fmt::format("which SHAPE? One of {}", fmt::join(synth_shapes(), ", ")));
  if (options.type.empty())
    return usage_mistake(fmt::format("which --type? One of {}", fmt::join(synth_types(), ", ")));
  if (options.out.path.empty()) return usage_mistake("where to? --out FILE.gguf");
  SONDE_CHECK(options.out.check(FileKind::kGguf));
  const Interrupt interrupt;
  std::unique_ptr<ProgressLine> progress;
  SynthOptions job{options.shape, options.type, options.out.path, options.layers, options.seed.value_or(0), {}, !options.no_mtp};
  job.progress = [&](int64_t done, int64_t total) {
    if (!progress) progress = std::make_unique<ProgressLine>("writing", total, "bytes");
    progress->update(done);
    return !Interrupt::requested();
  };
  const Result<SynthReport> report = write_synthetic(job);
  progress.reset();
  if (!report.ok()) {
    if (report.error().code != Code::kCancelled) return report.error();
    notice("interrupted; nothing was written");
    return kInterrupted;
  }
  if (options.json) {
    print_line({{"file", options.out.path},
                {"shape", options.shape},
                {"type", options.type},
                {"layers", report->layers},
                {"parameters", report->parameters},
                {"tensor_bytes", report->bytes}});
  } else {
    print(fmt::format("{}: {} with {} layers, {} parameters, {}\n", options.out.path, options.shape, report->layers,
                      count_text(static_cast<double>(report->parameters)),
                      bytes_text(static_cast<double>(report->bytes))));
  }
  return kOk;
}

Run setup(Args& args) {
  auto options = std::make_shared<Options>();
  static const std::string shapes = fmt::format("{}", fmt::join(synth_shapes(), ", "));
  static const std::string types = fmt::format("{}", fmt::join(synth_types(), ", "));
  args.positional("SHAPE", options->shape, shapes.c_str());
  args.option("--type", options->type, types.c_str());
  options->out.declare(args, "-o,--out", "the file to write");
  args.option("--layers", options->layers, "only the first so many layers");
  args.flag("--no-mtp", options->no_mtp, "leave the layer of multi-token prediction out");
  args.option("--seed", options->seed, "the same seed gives the same file (default 0)");
  declare_json(args, options->json);
  return [options] { return finish(synth(*options)); };
}

}  // namespace

extern const Command cmd_synth = {"synth",
                                  "SHAPE --type MIX --out FILE.gguf [--layers N] [--no-mtp] [--seed S] [--force] [--json]",
                                  "a GGUF file of random weights in a published model's shape",
                                  "  sonde synth r1-distill-qwen-1.5b --type BF16 --out qwen.gguf\n"
                                  "  sonde synth v2-lite --type F16 --out lite.gguf --layers 4\n"
                                  "  sonde synth mini --type MXFP4 --out mini.gguf\n",
                                  setup};

}  // namespace sonde
