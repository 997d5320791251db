// An engine from its parts: Engine::open puts them together from a checkpoint, tests from models of their own.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "model/model.h"
#include "sonde/engine.h"
#include "text/dialect.h"
#include "text/tokenizer.h"

namespace sonde {

struct EngineParts {
  std::shared_ptr<const Checkpoint> checkpoint;  // null: Engine::checkpoint() must not be called
  std::shared_ptr<Model> model;  // one that stands in several engines computes for one at a time
  std::unique_ptr<Tokenizer> tokenizer;    // null: none, or not for the reason below
  std::optional<Error> no_tokenizer;
  std::shared_ptr<const Dialect> dialect;  // null: none, for the reason
  std::optional<Error> no_dialect;
  std::vector<int32_t> end_tokens;
  int64_t weight_bytes = 0;  // of the mapped files, for the memory plan
  // Sees the raw logits before a token is chosen: request, number of the token in the answer. On the engine's thread.
  std::function<void(const Request&, int64_t, std::span<const float>)> watch_logits;
};

Result<std::unique_ptr<Engine>> make_engine(EngineParts parts, EngineOptions options);

}  // namespace sonde
