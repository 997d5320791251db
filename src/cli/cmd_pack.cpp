// sonde pack: the packed weights as a cache file, ahead of the first start.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/paths.h"
#include "cli/command.h"
#include "cli/common_flags.h"
#include "cli/progress.h"
#include "files/cache_file.h"
#include "model/model.h"
#include "model/packed_weights.h"

namespace sonde {
namespace {

struct Options {
  ModelFlags model;
  int threads = 0;
  bool verify = false, remove = false, json = false;
};

std::string size(int64_t bytes) { return bytes_text(static_cast<double>(bytes)); }

Result<int> remove_file(const std::string& file, bool json) {
  SONDE_TRY(const bool removed, remove_cache_file(file));
  if (json)
    print_line({{"file", file}, {"removed", removed}});
  else
    print((removed ? "removed: " : "there was none: ") + file + "\n");
  return kOk;
}

Result<int> pack_model(const Options& options) {
  SONDE_TRY(const std::string path, options.model.path());
  const std::string folder = cache_folder();
  if (folder.empty())
    return Error{.code = Code::kInvalid,
                 .what = "no folder for cache files",
                 .expected = "SONDE_CACHE, XDG_CACHE_HOME or HOME names one",
                 .found = "SONDE_CACHE is empty, or none of them is set"};
  SONDE_TRY(std::shared_ptr<const Checkpoint> checkpoint, Checkpoint::open(path));
  const std::string file = packed_path(*checkpoint, folder);
  if (options.remove) return remove_file(file, options.json);

  std::string said;  // why there is no file, if there is none
  const ModelOptions how{.exact = false,
                         .threads = options.threads,
                         .progress = loading_progress(options.verify ? "comparing" : "packing the weights"),
                         .notice = [&](const std::string& line) { said = line; },
                         .cache = folder,
                         .cache_least = 0,
                         .verify_cache = options.verify};
  SONDE_TRY(const std::unique_ptr<Model> model, Model::load(checkpoint, how));
  const Model::Packed packed = model->packed();
  if (packed.file.empty() && packed.bytes > 0)
    return Error{.code = Code::kIo, .what = said, .where = path, .hint = "SONDE_CACHE names another folder"};
  const int64_t source = checkpoint->file_bytes();
  if (options.json) {
    print_line({{"file", packed.file.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(packed.file)},
                {"bytes", packed.bytes},
                {"source_bytes", source},
                {"matrices", packed.matrices},
                {"packed", packed.made > 0 && !options.verify},
                {"verified", options.verify}});
  } else if (packed.file.empty()) {
    print("nothing to pack: no weight of this model has a packed form\n");
  } else {
    print(fmt::format("{}: {}: {}, {:.2f} times the source's {}\n",
                      options.verify    ? "every byte is right"
                      : packed.made > 0 ? "written"
                                        : "there already",
                      packed.file, size(packed.bytes), double(packed.bytes) / double(source), size(source)));
  }
  return kOk;
}

Run setup(Args& args) {
  auto options = std::make_shared<Options>();
  options->model.declare(args);
  args.flag("--verify", options->verify, "pack again in memory, piece by piece, and compare every byte with the file");
  args.flag("--remove", options->remove, "delete the file");
  args.option("-t,--threads", options->threads, "compute threads (default: as many as the process may use)");
  declare_json(args, options->json);
  return [options] {
    if (options->verify && options->remove) return usage_error("give one of --verify and --remove");
    if (options->threads < 0 || options->threads > 4096) return usage_error("--threads is out of range 1 to 4096");
    return finish(pack_model(*options));
  };
}

}  // namespace

extern const Command cmd_pack = {"pack", "MODEL [--verify] [--remove] [--json]",
                                 "packed weights as a cache file, so that starting takes a moment",
                                 "  sonde pack DeepSeek-V2-Lite-Chat.Q4_K_M.gguf\n"
                                 "  sonde pack DeepSeek-V2-Lite-Chat.Q4_K_M.gguf --verify\n"
                                 "  SONDE_CACHE=/var/cache/sonde sonde pack model/ --remove\n",
                                 setup};

}  // namespace sonde
