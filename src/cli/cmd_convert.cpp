// sonde convert: from one published form into the other, without loss.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/common_flags.h"
#include "cli/interrupt.h"
#include "cli/out_file.h"
#include "cli/progress.h"
#include "files/convert.h"

namespace sonde {
namespace {

struct Options {
  ModelFlags model;
  std::string to;
  OutFile out;
  bool json = false;
};

Result<int> convert(const Options& options) {
  SONDE_TRY(const std::string path, options.model.path());
  SONDE_TRY(const auto checkpoint, Checkpoint::open(path));
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path out(options.out.path),
      folder = fs::is_directory(path, error) ? fs::path(path) : fs::path(path).parent_path();
  const bool inside =
      options.to == "gguf" && fs::exists(out, error) &&
      fs::equivalent(folder.empty() ? "." : folder, out.has_parent_path() ? out.parent_path() : ".", error);
  if (inside || fs::equivalent(path, out, error))
    return Error{
        .code = Code::kInvalid, .what = "--out is the model itself, or one of its files", .where = options.out.path};
  if (options.to == "gguf") SONDE_CHECK(options.out.check(FileKind::kGguf));

  const Interrupt interrupt;
  ProgressLine line("writing", checkpoint->file_bytes(), "bytes");
  const auto progress = [&](int64_t done, int64_t) {
    line.update(done);
    return !Interrupt::requested();
  };
  SONDE_CHECK(options.to == "gguf" ? convert_to_gguf(*checkpoint, options.out.path, progress)
                                   : convert_to_hf(*checkpoint, options.out.path, progress));
  line.clear();
  if (options.to == "gguf") {
    const auto written = Checkpoint::open(options.out.path);
    if (written.ok() && (*written)->tokenizer().gguf && (*written)->tokenizer().gguf->no_normalizer)
      notice(
          "this tokenizer leaves text as it is, but GGUF's name for its splits stands for NFC: Sonde reads the file "
          "as the original, other engines may give other ids for text that is not in NFC");
  }
  if (options.json)
    print_line({{"out", options.out.path}, {"format", options.to}});
  else
    notice("written: " + options.out.path);
  return kOk;
}

Run setup(Args& args) {
  auto options = std::make_shared<Options>();
  options->model.declare(args);
  args.option("--to", options->to, "gguf: one GGUF file; hf: a Hugging Face folder");
  options->out.declare(args, "-o,--out", "the file to write, or the folder: a new or an empty one");
  declare_json(args, options->json);
  return [options] {
    if (options->to != "gguf" && options->to != "hf") return usage_error("--to is gguf or hf");
    if (options->out.path.empty()) return usage_error("--out is missing");
    return finish(convert(*options));
  };
}

}  // namespace

extern const Command cmd_convert = {"convert", "MODEL --to gguf|hf --out PATH [--force]",
                                    "from one published form into the other, without loss",
                                    "  sonde convert models/mini --to gguf --out mini.gguf\n"
                                    "  sonde convert model.BF16.gguf --to hf --out model/\n",
                                    setup};

}  // namespace sonde
