// sonde detokenize: ids -> text, and its exact bytes.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/common_flags.h"
#include "cli/text_model.h"

namespace sonde {
namespace {

struct Options {
  ModelFlags model;
  std::optional<std::string> ids;
  bool json = false;
};

std::string hex(std::string_view bytes) {
  std::string text;
  text.reserve(2 * bytes.size());
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

Result<int> detokenize(const Options& options) {
  SONDE_TRY(const std::string path, options.model.path());
  SONDE_TRY(const std::vector<int32_t> ids, read_ids(*options.ids, true));  // no ids, no text
  SONDE_TRY(const TextModel model, open_text_model(path));
  for (const int32_t id : ids)
    if (id >= model.tokenizer->vocab_size())
      return Error{.code = Code::kInvalid,
                   .what = "token id beyond the vocabulary",
                   .where = path,
                   .expected = fmt::format("below {}", model.tokenizer->vocab_size()),
                   .found = fmt::format("{}", id)};
  const std::string bytes = model.tokenizer->decode(ids);
  if (options.json)
    print_line({{"text", bytes}, {"bytes_hex", hex(bytes)}});
  else
    print(stdout_is_terminal() ? bytes + "\n" : bytes);  // in a pipe the bytes alone
  return kOk;
}

Run setup(Args& args) {
  auto options = std::make_shared<Options>();
  options->model.declare(args);
  args.option("--ids", options->ids, "1,2,3; or @FILE, or - for standard input");
  declare_json(args, options->json);
  return [options] {
    if (!options->ids) return usage_error("--ids is missing");
    return finish(detokenize(*options));
  };
}

}  // namespace

extern const Command cmd_detokenize = {
    "detokenize", "MODEL --ids 1,2,3 [--json]", "token ids to text and bytes",
    "  sonde detokenize model.gguf --ids 19923,14,2058\n"
    "  sonde tokenize model.gguf --text \"Grüße\" | sonde detokenize model.gguf --ids - --json\n",
    setup};

}  // namespace sonde
