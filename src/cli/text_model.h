// What the commands that only handle text open: a checkpoint, its tokenizer, its dialect; no weights are needed.
#pragma once

#include <memory>
#include <string>

#include "files/checkpoint.h"
#include "text/dialect.h"
#include "text/tokenizer.h"

namespace sonde {

struct TextModel {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Tokenizer> tokenizer;  // null: the checkpoint has none (only where `need_tokenizer` was false)
};

Result<TextModel> open_text_model(const std::string& path, bool need_tokenizer = true);

// --dialect NAME, or the checkpoint's own; how it was chosen is said on stderr where that is worth a line.
Result<std::shared_ptr<const Dialect>> open_dialect(const TextModel& model, const std::string& name);

}  // namespace sonde
