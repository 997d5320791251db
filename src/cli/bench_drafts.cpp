#include "cli/bench_drafts.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "engine/parts.h"

namespace sonde {
namespace {

constexpr int kRounds = 2;
constexpr std::string_view kText =
    "The first box holds twelve red apples, the second box holds nine green pears, and the third box holds four plums.\n";
constexpr int64_t kIds = 24;  // of the text where there is no tokenizer

std::vector<int32_t> text_of(const Tokenizer* tokenizer, int64_t vocabulary, int64_t tokens) {
  std::vector<int32_t> part, ids;
  if (tokenizer != nullptr) {
    part = tokenizer->encode(kText);
    if (tokenizer->adds_bos() && tokenizer->bos()) ids.push_back(*tokenizer->bos());
  } else {
    Random random(1);
    for (int64_t i = 0; i < kIds; ++i)
      part.push_back(static_cast<int32_t>(random.next_u64() % static_cast<uint64_t>(vocabulary)));
  }
  for (std::size_t i = 0; static_cast<int64_t>(ids.size()) < tokens; ++i) ids.push_back(part[i % part.size()]);
  return ids;
}

// Its tokens are counted in `done`, which progress shows.
Result<Usage> answer(Engine& engine, const std::vector<int32_t>& prompt, int64_t tokens, ProgressLine& progress, int64_t& done) {
  Request request;
  request.prompt = prompt, request.max_tokens = tokens;
  request.ignore_eos = true, request.loop_guard = false;
  request.sampling.temperature = 0;
  SONDE_TRY(const std::unique_ptr<Stream> stream, engine.submit(std::move(request)));
  Event event;
  for (int state = 0; (state = stream->next_for(event, 50)) >= 0;) {
    if (Interrupt::requested()) return stopped();
    if (state > 0 && event.error) return *event.error;
    if (state > 0) progress.update(done += std::ssize(event.ids));
    if (state > 0 && !event.finish_reason.empty()) return event.usage;
  }
  return stopped();
}

}  // namespace

Result<DraftMeasurement> measure_drafts(DirectModel& direct, const BenchOptions& options) {
  DraftMeasurement m{.option = options.run.draft, .mtp = direct.model->has_mtp()};
  auto tokenizer = Tokenizer::open(*direct.checkpoint);
  m.words = tokenizer.ok(), m.prompt = options.prompt > 0 ? options.prompt : 1;
  const auto prompt =
      text_of(m.words ? tokenizer->get() : nullptr, direct.model->config().vocab_size, m.prompt);
  EngineOptions common = options.run.engine_options();
  common.threads = direct.pool->size(), common.context = m.prompt + options.tokens;
  common.max_batch = 1, common.prefill_chunk = options.chunks.back();
  const auto engine = [&](int draft) {
    EngineParts parts;
    parts.model = direct.model, parts.weight_bytes = direct.model->mapped_bytes();
    EngineOptions own = common;
    own.draft = draft;
    return make_engine(std::move(parts), std::move(own));
  };
  SONDE_TRY(const std::unique_ptr<Engine> plain, engine(0));
  SONDE_TRY(const std::unique_ptr<Engine> drafting, engine(common.draft));
  ProgressLine progress("answers without drafts and with them", 2 * kRounds * options.tokens, "tokens");
  int64_t done = 0;
  for (int round = 0; round < kRounds; ++round) {
    SONDE_TRY(const Usage without, answer(*plain, prompt, options.tokens, progress, done));
    SONDE_TRY(const Usage with, answer(*drafting, prompt, options.tokens, progress, done));
    m.plain_seconds += without.decode_seconds, m.seconds += with.decode_seconds;
    m.tokens += with.completion_tokens - 1;  // the first comes with the prompt
    m.drafted += with.drafted_tokens, m.accepted += with.accepted_tokens;
  }
  return m;
}

void print_drafts(const DraftMeasurement& m) {
  print(fmt::format("\ndrafts    --draft {}, {} that repeat ({}): {} drafted, {} accepted; {:.2f} tokens/s, {:.2f} "
                    "without ({:.2f} times)\n",
                    m.option, m.words ? "words" : "random ids", m.mtp ? "prompt lookup and the MTP layer" : "prompt lookup",
                    m.drafted, m.accepted, m.rate(), m.plain_rate(), m.rate() / m.plain_rate()));
  flush();
}

nlohmann::ordered_json to_json(const DraftMeasurement& m) {
  return {{"draft", m.option},
          {"mtp", m.mtp},
          {"text", m.words ? "words" : "ids"},
          {"prompt_tokens", m.prompt},
          {"tokens", m.tokens},
          {"drafted_tokens", m.drafted},
          {"accepted_tokens", m.accepted},
          {"seconds", m.seconds},
          {"tokens_per_second", m.rate()},
          {"plain_tokens_per_second", m.plain_rate()},
          {"of_plain_speed", m.rate() / m.plain_rate()}};
}

}  // namespace sonde
