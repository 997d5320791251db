#include "engine/answer.h"

#include <fmt/format.h>

#include <algorithm>

#include "sample/logprobs.h"

namespace sonde {

Answer::Answer(const AnswerContext& shared, const Request& request, std::vector<int32_t> closing, uint64_t seed,
               uint64_t sample, std::shared_ptr<Channel> channel)
    : shared_(shared),
      request_(request),
      seed_(seed),
      channel_(std::move(channel)),
      sampler_(request.sampling, seed, sample, request.prompt),
      budget_(request.think.tokens, std::move(closing), request.thinking),
      stop_(request.stop) {
  usage.prompt_tokens = static_cast<int64_t>(request.prompt.size());
}

bool Answer::advance(const SummarisedRow& logits) {
  if (ended_) return false;
  if (!finite(logits)) {
    end("error", Error{Code::kInternal, "the model gave a logit that is not finite", "engine", "finite numbers",
                       fmt::format("NaN or infinity for token {} of the answer", usage.completion_tokens),
                       "the weights may be damaged: `sonde inspect --check` looks for such values"});
    return false;
  }
  Event& event = event_;
  event.clear();
  const auto forced = budget_.forced();
  const int32_t id = forced ? *forced : sampler_.choose(logits);
  const auto& ends = shared_.end_tokens;
  if (!forced && !request_.ignore_eos && std::find(ends.begin(), ends.end(), id) != ends.end()) {
    finish(event, "stop");
    return false;
  }
  sampler_.accept(id);
  last_ = id;
  ++usage.completion_tokens;
  event.ids.push_back(id);
  if (request_.logprobs >= 0) {
    Logprobs p = logprobs(logits.x, id, request_.logprobs);
    event.logprobs.push_back(p.chosen);
    event.top.push_back(std::move(p.top));
  }
  const std::string_view piece = shared_.tokenizer ? shared_.tokenizer->piece(id) : std::string_view();
  event.thought.push_back(budget_.add(piece));
  usage.reasoning_tokens = budget_.reasoning_tokens();
  event.text = stop_.push(utf8_.push(piece));

  std::string reason;
  if (stop_.matched()) {
    reason = "stop";
  } else if (request_.loop_guard && loop_.add(id)) {
    reason = "loop";
  } else if (usage.completion_tokens == request_.max_tokens ||
             usage.prompt_tokens + usage.completion_tokens >= shared_.context) {
    reason = "length";
  }
  if (!reason.empty()) {
    finish(event, std::move(reason));
    return false;
  }
  channel_->push(event);
  return true;
}

int64_t Answer::room() const {
  const int64_t context = shared_.context - usage.prompt_tokens - usage.completion_tokens;
  return request_.max_tokens < 0 ? context : std::min(context, request_.max_tokens - usage.completion_tokens);
}

void Answer::end(std::string reason, std::optional<Error> error) {
  if (ended_) return;
  Event event;
  event.error = std::move(error);
  finish(event, std::move(reason));
}

void Answer::finish(Event& event, std::string reason) {
  event.text += stop_.push(utf8_.finish());
  event.text += stop_.finish();
  event.finish_reason = std::move(reason);
  event.usage = usage;
  event.seed = seed_;
  channel_->push(event);
  ended_ = true;
}

}  // namespace sonde
