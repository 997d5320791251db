// One answer as it grows: logits -> token -> text, and the reasons to end it. Knows nothing of pages and batches.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/channel.h"
#include "sample/budget.h"
#include "sample/loop_guard.h"
#include "sample/sampler.h"
#include "sample/stop.h"
#include "text/tokenizer.h"

namespace sonde {

// What all answers of an engine share.
struct AnswerContext {
  const Tokenizer* tokenizer = nullptr;  // null: ids only
  std::vector<int32_t> end_tokens;
  int64_t context = 0;  // tokens, prompt and answer together
};

class Answer {
 public:
  // `request` outlives the answer. `closing`: what ends a thought that used up its budget.
  Answer(const AnswerContext& shared, const Request& request, std::vector<int32_t> closing, uint64_t seed,
         uint64_t sample, std::shared_ptr<Channel> channel);

  // Chooses the next token and tells the channel. True: the answer goes on, and last() is the token to compute next.
  bool advance(const SummarisedRow& logits);
  float summary_factor() const { return sampler_.summary_factor(); }  // of their totals
  // Ends it for an outside reason: "cancelled", or "error" with one.
  void end(std::string reason, std::optional<Error> error = std::nullopt);

  int32_t last() const { return last_; }
  int64_t tokens() const { return usage.completion_tokens; }
  // How many tokens it may still grow by.
  int64_t room() const;
  bool ended() const { return ended_; }
  bool cancelled() const { return channel_->cancelled(); }
  void prompt_read(int64_t tokens) { channel_->prompt_read(tokens); }

  Usage usage;  // prompt, cached and times are filled in by the engine

 private:
  void finish(Event& event, std::string reason);

  const AnswerContext& shared_;
  const Request& request_;
  uint64_t seed_;
  std::shared_ptr<Channel> channel_;
  Sampler sampler_;
  BudgetTracker budget_;
  StopMatcher stop_;
  LoopGuard loop_;
  Utf8Stream utf8_;
  Event event_;  // of the token at hand
  int32_t last_ = -1;
  bool ended_ = false;
};

}  // namespace sonde
