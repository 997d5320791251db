#include "cli/text_model.h"

#include <utility>

#include "cli/output.h"

namespace sonde {

Result<TextModel> open_text_model(const std::string& path, bool need_tokenizer) {
  TextModel model;
  SONDE_TRY(model.checkpoint, Checkpoint::open(path));
  const TokenizerSource& source = model.checkpoint->tokenizer();
  if (!need_tokenizer && source.tokenizer_json.empty() && !source.gguf) return model;
  SONDE_TRY(model.tokenizer, Tokenizer::open(*model.checkpoint));
  return model;
}

Result<std::shared_ptr<const Dialect>> open_dialect(const TextModel& model, const std::string& name) {
  if (!name.empty()) return dialect_by_name(name);
  SONDE_TRY(ChosenDialect chosen, choose_dialect(*model.checkpoint, model.tokenizer.get()));
  if (!chosen.notice.empty()) notice(chosen.notice);
  return chosen.dialect;
}

}  // namespace sonde
