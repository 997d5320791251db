// The loop: one thread that plans a step, runs the model once, and gives every answer its logits.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <random>
#include <thread>
#include <utility>

#include "base/memory.h"
#include "engine/drafter.h"
#include "engine/parts.h"
#include "engine/plan.h"
#include "engine/scheduler.h"
#include "sample/logprobs.h"
#include "sample/validate.h"

namespace sonde {
namespace {

constexpr int kMostSamples = 1024;

double seconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

class EngineLoop final : public Engine {
 public:
  // moves: there is memory for all weights and the whole cache, so that neither need be read from the disk again.
  EngineLoop(EngineParts parts, EngineOptions options, std::unique_ptr<PagePool> pages, ScheduleOptions schedule,
             bool moves)
      : parts_(std::move(parts)),
        options_(std::move(options)),
        moves_(moves),
        shared_{parts_.tokenizer.get(), parts_.end_tokens, options_.context},
        threads_(ThreadPool::shared(options_.threads)),
        pages_(std::move(pages)),
        cache_(*pages_, options_.prefix_cache),
        scheduler_(*pages_, cache_, schedule),
        drafter_(*parts_.model, *threads_, options_.draft) {
    stats_.pages_total = pages_->size();
    thread_ = std::thread([this] { loop(); });
  }

  ~EngineLoop() override {
    stopping_ = true;
    bell_->ring();
    thread_.join();
  }

  Result<std::unique_ptr<Stream>> submit(Request request) override {
    SONDE_TRY(auto streams, submit_group(std::move(request), 1));
    return std::move(streams.front());
  }

  Result<std::vector<std::unique_ptr<Stream>>> submit_group(Request request, int samples) override {
    SONDE_CHECK(check(request, samples));
    const uint64_t seed = request.sampling.seed ? *request.sampling.seed : fresh_seed();
    std::vector<int32_t> closing;
    if (request.think.tokens >= 0) {
      closing = parts_.tokenizer->encode(request.think.closing);
      const auto tag = parts_.tokenizer->encode("</think>", Special::kThink);
      closing.insert(closing.end(), tag.begin(), tag.end());
    }
    std::vector<std::unique_ptr<Stream>> streams;
    std::unique_ptr<Sequence> leader;
    const auto what = std::make_shared<const Request>(std::move(request));
    std::lock_guard lock(inbox_mutex_);
    for (int i = 0; i < samples; ++i) {
      auto channel = std::make_shared<Channel>(bell_);
      streams.push_back(make_stream(channel));
      auto sequence = std::make_unique<Sequence>(arrivals_++, what);
      sequence->submitted = Clock::now();
      sequence->answer = std::make_unique<Answer>(shared_, *what, closing, seed, i, std::move(channel));
      if (leader) {
        leader->followers.push_back(std::move(sequence));
      } else {
        leader = std::move(sequence);
      }
    }
    inbox_.push_back(std::move(leader));
    {
      std::lock_guard stats_lock(stats_mutex_);
      stats_.waiting += samples;
    }
    bell_->ring();
    return streams;
  }

  const EngineOptions& options() const override { return options_; }
  const Checkpoint& checkpoint() const override { return *parts_.checkpoint; }
  Model& model() override { return *parts_.model; }
  const Tokenizer* tokenizer() const override { return parts_.tokenizer.get(); }
  const Dialect* dialect() const override { return parts_.dialect.get(); }
  Result<const Tokenizer*> require_tokenizer() const override {
    if (parts_.tokenizer) return parts_.tokenizer.get();
    if (parts_.no_tokenizer) return *parts_.no_tokenizer;
    return Error{Code::kNotFound,
                 "there is no tokenizer",
                 parts_.checkpoint ? parts_.checkpoint->path() : "",
                 "",
                 "",
                 "`sonde generate --ids` goes without"};
  }
  Result<const Dialect*> require_dialect() const override {
    SONDE_CHECK(require_tokenizer());
    if (parts_.dialect) return parts_.dialect.get();
    if (parts_.no_dialect) return *parts_.no_dialect;
    return Error{Code::kNotFound, "the model has no chat dialect", "", "", "", "name one with --dialect"};
  }
  Stats stats() const override {
    std::lock_guard lock(stats_mutex_);
    return stats_;
  }

 private:
  static uint64_t fresh_seed() {
    std::random_device device;
    return uint64_t{device()} << 32 | device();
  }

  static Error invalid(std::string what, std::string expected, std::string found) {
    return Error{Code::kInvalid, std::move(what), "request", std::move(expected), std::move(found), ""};
  }

  Status check(const Request& r, int samples) const {
    const int64_t vocab = parts_.model->config().vocab_size;
    if (r.prompt.empty()) return invalid("the prompt is empty", "at least one token", "");
    for (std::size_t i = 0; i < r.prompt.size(); ++i) {
      if (r.prompt[i] < 0 || r.prompt[i] >= vocab) {
        return invalid(fmt::format("token {} of the prompt does not exist", i),
                       fmt::format("an id in [0, {}]", vocab - 1), fmt::format("{}", r.prompt[i]));
      }
    }
    if (static_cast<int64_t>(r.prompt.size()) >= options_.context) {
      return Error{Code::kTooLarge,
                   "the prompt leaves no room for an answer in the context",
                   "request",
                   fmt::format("fewer than {} tokens", options_.context),
                   fmt::format("{} tokens", r.prompt.size()),
                   "shorten the prompt or open the model with a larger --context"};
    }
    if (r.max_tokens != -1 && r.max_tokens < 1) {
      return invalid("max_tokens is out of range", "at least 1, or -1 for no limit", fmt::format("{}", r.max_tokens));
    }
    if (r.logprobs < -1 || r.logprobs > kMostLogprobs) {
      return invalid("logprobs is out of range", fmt::format("0 to {}, or -1 for none", kMostLogprobs),
                     fmt::format("{}", r.logprobs));
    }
    if (r.think.tokens < -1) {
      return invalid("the thinking budget is out of range", "at least 0, or -1 for no limit",
                     fmt::format("{}", r.think.tokens));
    }
    if (samples < 1 || samples > kMostSamples) {
      return invalid("the number of answers is out of range", fmt::format("1 to {}", kMostSamples),
                     fmt::format("{}", samples));
    }
    for (const std::string& stop : r.stop) {
      if (stop.empty()) return invalid("a stop text is empty", "at least one byte", "");
    }
    if (!parts_.tokenizer && (!r.stop.empty() || r.think.tokens >= 0)) {
      return Error{Code::kUnsupported,
                   "stop texts and thinking budgets need a tokenizer, and the model has none",
                   "request",
                   "",
                   "",
                   ""};
    }
    return validate(r.sampling, vocab);
  }

  void loop() {
    std::optional<ThreadPool::Awake> awake;
    while (!stopping_) {
      receive();
      scheduler_.sweep();
      publish();
      try {
        if (scheduler_.idle()) {
          if (rest()) continue;
          awake.reset();
          bell_->wait();
          continue;
        }
        if (!awake) awake.emplace(*threads_);
        const ThreadPool::Turn turn(*threads_);
        step();
      } catch (const std::bad_alloc&) {
        end_all("error", Error{Code::kTooLarge, "not enough memory for this step", "engine", "", "",
                               "use a smaller context, batch or prefill chunk"});
      } catch (const std::exception& failure) {
        end_all("error", Error{Code::kInternal, failure.what(), "engine", "", "", ""});
      }
    }
    receive();
    end_all("cancelled", std::nullopt);
  }

  void receive() {
    std::lock_guard lock(inbox_mutex_);
    for (auto& sequence : inbox_) scheduler_.add(std::move(sequence));
    inbox_.clear();
  }

  void end_all(const std::string& reason, const std::optional<Error>& error) {
    scheduler_.each([&](Sequence& sequence) { sequence.answer->end(reason, error); });
    scheduler_.sweep();
  }

  void publish() {
    std::lock_guard inbox_lock(inbox_mutex_);
    std::lock_guard lock(stats_mutex_);
    stats_.running = scheduler_.running();
    stats_.waiting = scheduler_.waiting();
    for (const auto& sequence : inbox_) stats_.waiting += 1 + static_cast<int>(sequence->followers.size());
    stats_.pages_used = pages_->size() - cache_.available();
    stats_.steps = steps_;
    stats_.prefix_hit_tokens = scheduler_.hit_tokens();
    stats_.preemptions = scheduler_.preemptions();
    stats_.drafted_tokens = drafter_.drafted();
    stats_.accepted_tokens = drafter_.accepted();
  }

  // A row of logits that an answer chooses from, and where its drafts are right the rows behind it.
  struct Turn {
    Scheduler::Work* work;
    Sequence* sequence;
    int64_t row;
    int64_t accepted = 0;
    bool goes_on = false;
  };

  void step() {
    auto& works = scheduler_.next_step();
    if (works.empty()) {  // cannot be: the pool holds a sequence of full length
      return end_all("error", Error{Code::kInternal, "the scheduler found nothing to do", "engine", "", "", ""});
    }
    drafter_.propose(works, scheduler_);
    chunks_.clear();
    for (const auto& work : works) {
      Sequence& s = *work.sequence;
      const auto tokens = std::span(s.tokens).subspan(static_cast<std::size_t>(work.start),
                                                      static_cast<std::size_t>(work.count - work.drafts));
      chunks_.push_back({.tokens = work.drafts > 0 ? std::span<const int32_t>(s.drafting.ahead) : tokens,
                         .start = work.start,
                         .pages = s.addresses,
                         .absorbed = work.absorbed,
                         .logits = !work.logits      ? Logits::kNone
                                   : work.drafts > 0 ? Logits::kAll
                                                     : Logits::kLast,
                         .summary_factor = s.answer->summary_factor(),
                         .states = drafter_.wants_states(s)});
    }
    const auto begin = Clock::now();
    const bool whole = parts_.model->forward(*threads_, chunks_, result_, nullptr,
                                             [&](int64_t done, int64_t layers) { return watch(works, done, layers); });
    if (!whole) return drafter_.given_up(works);  // its pages are not done(): nobody finds them
    ++steps_;

    auto& turns = turns_;
    auto& states = states_;
    turns.clear(), states.assign(works.size(), {});
    int64_t row = 0;
    std::size_t state = 0;
    for (std::size_t i = 0; i < works.size(); ++i) {
      auto& work = works[i];
      if (chunks_[i].states) {
        const auto width = static_cast<std::size_t>(parts_.model->config().hidden_size);
        states[i] = std::span<const float>(result_.states).subspan(state, static_cast<std::size_t>(work.count) * width);
        state += states[i].size();
      }
      if (work.drafts == 0) keep(work, states[i]);
      if (!work.logits) continue;
      turns.push_back({&work, work.sequence, row});
      if (!work.sequence->followers.empty()) {
        for (Sequence* follower : scheduler_.fork(*work.sequence)) turns.push_back({&work, follower, row});
      }
      row += 1 + work.drafts;
    }
    const auto now = Clock::now();
    for (const Turn& turn : turns) {
      Sequence& s = *turn.sequence;
      Usage& usage = s.answer->usage;
      if (s.answering == Clock::time_point{}) {
        s.answering = now;
        usage.queue_seconds = seconds(s.submitted, s.started);
        usage.prefill_seconds = seconds(s.started, now);
      }
      usage.decode_seconds = seconds(s.answering, now);
    }
    advance(turns);
    for (std::size_t i = 0; i < works.size(); ++i) {
      auto& work = works[i];
      if (work.drafts == 0) continue;
      const auto turn = std::find_if(turns.begin(), turns.end(), [&](const Turn& t) { return t.work == &work; });
      drafter_.verified(work, turn->accepted, !turn->goes_on);
      work.count = 1 + turn->accepted;
      const auto right =
          states[i].size() / static_cast<std::size_t>(1 + work.drafts) * static_cast<std::size_t>(work.count);
      keep(work, states[i].first(right));
    }
    drafter_.timed(works, seconds(begin, Clock::now()), result_.experts);  // when what was won has been counted
    // Beside answers a piece a step, which they win back soon; prompts are not kept waiting.
    const auto answers = [](const Scheduler::Work& work) { return work.start >= work.sequence->prompt_size(); };
    if (scheduler_.waiting() == 0 && std::all_of(works.begin(), works.end(), answers)) move_weights();
  }

  bool move_weights() { return moves_ && parts_.model->move_weights(*threads_); }

  // While nobody asks for anything. False: there is nothing to do.
  bool rest() {
    const ThreadPool::Turn turn(*threads_);
    return move_weights();
  }

  // Before each layer of a step. False: nobody waits for it any more.
  bool watch(const std::vector<Scheduler::Work>& works, int64_t done, int64_t layers) {
    for (const auto& work : works) {
      if (work.start < work.sequence->prompt_size())
        work.sequence->prompt_read(work.start + work.count * done / layers);
    }
    return !stopping_ && scheduler_.wanted();
  }

  void keep(const Scheduler::Work& work, std::span<const float> states) {
    scheduler_.done(work);
    drafter_.computed(work, states);
  }

  // Every answer takes its row's token, and another one for as long as it is the token that was drafted.
  void advance(std::vector<Turn>& turns) {
    const int64_t vocab = parts_.model->config().vocab_size;
    std::vector<Turn*>& open = open_;
    open.clear();
    for (Turn& turn : turns) open.push_back(&turn);
    while (!open.empty()) {
      const auto logits_of = [&](const Turn& t) {
        return result_.row(t.row + t.accepted, vocab);
      };
      if (parts_.watch_logits) {
        for (Turn* t : open) parts_.watch_logits(*t->sequence->request, t->sequence->answer->tokens(), logits_of(*t).x);
      }
      std::atomic<bool> failed = false;
      threads_->share(static_cast<int64_t>(open.size()), 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
          Turn& t = *open[static_cast<std::size_t>(i)];
          try {
            t.goes_on = t.sequence->answer->advance(logits_of(t));
          } catch (const std::exception&) { failed = true; }
        }
      });
      if (failed) throw std::bad_alloc();
      std::erase_if(open, [](Turn* t) {
        if (!t->goes_on) return true;
        Answer& answer = *t->sequence->answer;
        t->sequence->tokens.push_back(answer.last());
        if (t->accepted == t->work->drafts) return true;
        const auto next = static_cast<std::size_t>(t->accepted + 1);
        if (t->sequence->drafting.ahead[next] != answer.last()) return true;
        ++t->accepted;
        ++answer.usage.accepted_tokens;
        return false;
      });
    }
  }

  EngineParts parts_;
  EngineOptions options_;
  const bool moves_;
  AnswerContext shared_;
  const std::shared_ptr<ThreadPool> threads_;
  std::unique_ptr<PagePool> pages_;
  PrefixCache cache_;
  Scheduler scheduler_;
  Drafter drafter_;
  ForwardResult result_;
  int64_t steps_ = 0;
  // Of the step under way; kept so that a step of answers allocates nothing.
  std::vector<SequenceChunk> chunks_;
  std::vector<Turn> turns_;
  std::vector<Turn*> open_;                     // those that still take tokens
  std::vector<std::span<const float>> states_;  // of each work

  std::shared_ptr<Bell> bell_ = std::make_shared<Bell>();
  std::mutex inbox_mutex_;
  std::vector<std::unique_ptr<Sequence>> inbox_;
  uint64_t arrivals_ = 0;
  mutable std::mutex stats_mutex_;
  Stats stats_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace

Result<std::unique_ptr<Engine>> make_engine(EngineParts parts, EngineOptions options) {
  const Model& model = *parts.model;
  if (options.max_batch < 1 || options.prefill_chunk < 1 || options.chunk_beside < 1 || options.threads < 0) {
    return Error{Code::kInvalid,
                 "engine options are out of range",
                 "engine",
                 "max_batch, prefill_chunk and chunk_beside of at least 1",
                 fmt::format("{}, {}, {}; {} threads", options.max_batch, options.prefill_chunk, options.chunk_beside,
                             options.threads),
                 ""};
  }
  if (options.draft < -1 || options.draft > kMostDrafts) {
    return Error{Code::kInvalid,
                 "the number of drafted tokens is out of range",
                 "engine",
                 fmt::format("0 to {}, or -1 for as many as pay", kMostDrafts),
                 fmt::format("{}", options.draft),
                 ""};
  }
  for (int64_t* chunk : {&options.prefill_chunk, &options.chunk_beside})
    *chunk = (std::min(*chunk, int64_t{1} << 20) + kPageTokens - 1) / kPageTokens * kPageTokens;
  if (options.threads == 0) options.threads = usable_processors();
  const PlanInput input{model.config(), model.kv_layout(), parts.weight_bytes, model.owned_bytes(), memory_available()};
  SONDE_TRY(const MemoryPlan plan, plan_memory(input, options));
  const int64_t asked = std::exchange(options.context, plan.context);
  options.kv_bytes = plan.kv_bytes;
  if (!plan.fits && options.notice) {
    options.notice(
        fmt::format("the weights ({} bytes) do not fit in the memory that is free ({} bytes): they will be read "
                    "from disk again and again",
                    plan.weight_bytes, plan.available));
  }
  if (const int64_t own = model.config().max_position_embeddings; plan.context < own && asked == 0 && options.notice) {
    options.notice(fmt::format("memory allows a context of {} tokens; the model's own is {}", plan.context, own));
  }
  SONDE_TRY(auto pages, PagePool::create(model.kv_layout(), plan.pages));
  const ScheduleOptions schedule{.max_batch = options.max_batch,
                                 .prefill_chunk = options.prefill_chunk,
                                 .chunk_beside = options.chunk_beside,
                                 .absorbed_prompt = options.reproducible,
                                 .one_form = options.reproducible || !model.has_two_forms()};
  return std::unique_ptr<Engine>(
      std::make_unique<EngineLoop>(std::move(parts), std::move(options), std::move(pages), schedule,
                                   plan.total() - plan.owned_bytes <= plan.available));
}

}  // namespace sonde
