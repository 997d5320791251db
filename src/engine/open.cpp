// From a path to a running engine.
#include "engine/parts.h"

namespace sonde {

Result<std::unique_ptr<Engine>> Engine::open(const std::string& path, EngineOptions options) {
  const auto notice = [&](const std::string& line) {
    if (options.notice && !line.empty()) options.notice(line);
  };
  EngineParts parts;
  SONDE_TRY(std::shared_ptr<const Checkpoint> checkpoint, Checkpoint::open(path));
  parts.checkpoint = checkpoint;
  options.exact = options.exact || checkpoint->file_bytes() < options.fast_from;
  SONDE_TRY(parts.model, Model::load(checkpoint, {.exact = options.exact,
                                                   .threads = options.threads,
                                                   .progress = options.progress,
                                                   .notice = options.notice,
                                                   .cache = options.cache}));
  parts.end_tokens = checkpoint->end_tokens();
  parts.weight_bytes = parts.model->mapped_bytes();

  const TokenizerSource& source = checkpoint->tokenizer();
  if (source.gguf || !source.tokenizer_json.empty()) {  // one that this build cannot use is no reason not to run on ids
    if (auto opened = Tokenizer::open(*checkpoint); opened.ok()) {
      parts.tokenizer = std::move(opened).value();
    } else {
      parts.no_tokenizer = std::move(opened).error();
    }
  }
  if (!options.dialect.empty()) {
    SONDE_TRY(parts.dialect, dialect_by_name(options.dialect));
  } else if (auto chosen = choose_dialect(*checkpoint, parts.tokenizer.get()); chosen.ok()) {
    parts.dialect = chosen->dialect;
    notice(chosen->notice);
  } else {
    parts.no_dialect = std::move(chosen).error();
  }
  return make_engine(std::move(parts), std::move(options));
}

}  // namespace sonde
