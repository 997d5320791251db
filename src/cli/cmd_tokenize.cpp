// sonde tokenize: text -> ids.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/common_flags.h"
#include "cli/jsonl.h"
#include "cli/text_model.h"

namespace sonde {
namespace {

struct Options {
  ModelFlags model;
  std::optional<std::string> text, file, jsonl;
  bool special = false, bos = false, json = false;
};

Result<int> tokenize(const Options& options) {
  SONDE_TRY(const std::string path, options.model.path());
  SONDE_TRY(const TextModel model, open_text_model(path));
  const Tokenizer& tokenizer = *model.tokenizer;
  if (options.bos && !tokenizer.bos())
    return Error{.code = Code::kNotFound, .what = "--bos: this vocabulary has no BOS token", .where = path};

  const auto ids_of = [&](std::string_view text) {
    std::vector<int32_t> ids = tokenizer.encode(text, options.special ? Special::kAll : Special::kNone);
    if (options.bos) ids.insert(ids.begin(), *tokenizer.bos());
    return ids;
  };
  if (options.jsonl) {
    return run_json_lines(*options.jsonl, [&](const nlohmann::ordered_json& line) -> Result<nlohmann::ordered_json> {
      SONDE_TRY(const std::string text, text_field(line, "text"));
      return nlohmann::ordered_json{{"ids", ids_of(text)}};
    });
  }
  std::string text;
  if (options.text) {
    text = *options.text;
  } else {
    SONDE_TRY(text, read_input(*options.file));
  }
  const std::vector<int32_t> ids = ids_of(text);
  if (options.json)
    print_line({{"ids", ids}});
  else
    print(fmt::format("{}\n", fmt::join(ids, ",")));
  return kOk;
}

Run setup(Args& args) {
  auto options = std::make_shared<Options>();
  options->model.declare(args);
  args.option("--text", options->text, "the text itself");
  args.option("--file", options->file, "a file that holds the text; - is standard input");
  args.option("--jsonl", options->jsonl, "lines {\"text\"}, answered by lines {\"ids\"}; - is standard input");
  args.flag("--special", options->special, "recognise control tokens written out in the text");
  args.flag("--bos", options->bos, "put the BOS token in front");
  declare_json(args, options->json);
  return [options] {
    if (options->text.has_value() + options->file.has_value() + options->jsonl.has_value() != 1)
      return usage_error("give one of --text, --file and --jsonl");
    return finish(tokenize(*options));
  };
}

}  // namespace

extern const Command cmd_tokenize = {"tokenize", "MODEL (--text T | --file F | --jsonl F) [--special] [--bos] [--json]",
                                     "text to token ids",
                                     "  sonde tokenize model.gguf --text \"Hello, world\"\n"
                                     "  sonde tokenize DeepSeek-V3/ --file book.txt --json\n"
                                     "  echo '{\"text\": \"a b\"}' | sonde tokenize model.gguf --jsonl -\n",
                                     setup};

}  // namespace sonde
