// sonde convert: from one published form into the other, without loss.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/common_flags.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "files/convert.h"

namespace sonde {
namespace {

struct Options {
  ModelFlags model;
  std::string to, out;
  bool json = false;
};

Result<int> convert(const Options& options) {
  SONDE_TRY(const std::string path, options.model.path());
  SONDE_TRY(const auto checkpoint, Checkpoint::open(path));
  std::error_code error;
  if (std::filesystem::equivalent(path, options.out, error))
    return Error{.code = Code::kInvalid, .what = "--out is the model itself", .where = options.out};

  const Interrupt interrupt;
  ProgressLine line("writing", checkpoint->file_bytes(), "bytes");
  const auto progress = [&](int64_t done, int64_t) {
    line.update(done);
    return !Interrupt::requested();
  };
  SONDE_CHECK(options.to == "gguf" ? convert_to_gguf(*checkpoint, options.out, progress)
                                   : convert_to_hf(*checkpoint, options.out, progress));
  line.clear();
  if (options.json)
    print_line({{"out", options.out}, {"format", options.to}});
  else
    notice("written: " + options.out);
  return kOk;
}

Run setup(Args& args) {
  auto options = std::make_shared<Options>();
  options->model.declare(args);
  args.option("--to", options->to, "gguf: one GGUF file; hf: a Hugging Face folder");
  args.option("-o,--out", options->out, "the file or folder to write");
  declare_json(args, options->json);
  return [options] {
    if (options->to != "gguf" && options->to != "hf") return usage_error("--to is gguf or hf");
    if (options->out.empty()) return usage_error("--out is missing");
    return finish(convert(*options));
  };
}

}  // namespace

extern const Command cmd_convert = {"convert", "MODEL --to gguf|hf --out PATH",
                                    "from one published form into the other, without loss",
                                    "  sonde convert models/mini --to gguf --out mini.gguf\n"
                                    "  sonde convert model.BF16.gguf --to hf --out model/\n",
                                    setup};

}  // namespace sonde
