#include "engine/drafter.h"

#include <algorithm>
#include <utility>

namespace sonde {
namespace {

constexpr std::size_t kFewAnswers = 4;  // with more of them a step's rows are many enough
constexpr int64_t kMostMtp = 6;         // drafts in a row of the one MTP layer; it was trained for the first
constexpr int64_t kFillRows = 32;    // records of the MTP layer are written so many at once where no draft wants them
constexpr double kAnswerMemory = 8;  // drafts that an answer's own chances look back on

ExpertUnion expert_union(const Model& model) {
  const ModelConfig& c = model.config();
  const Model::Choice choice = model.choice_per_token();
  if (choice.experts == 0) return {};
  const double share = static_cast<double>(choice.bytes) / static_cast<double>(model.work_per_token().bytes);
  return {c.n_routed_experts, c.num_experts_per_tok, share};
}

}  // namespace

Drafter::Drafter(Model& model, ThreadPool& threads, int option)
    : model_(model),
      threads_(threads),
      option_(option),
      mtp_(option != 0 && model.has_mtp()),
      hidden_(model.config().hidden_size),
      chosen_(model.choice_per_token().experts),
      times_(expert_union(model)) {}

bool Drafter::wants_states(Sequence& s) const {
  if (s.drafting.trial == 0) s.drafting.trial = mtp_account_.open() ? mtp_account_.trial() : -1;
  return uses_mtp(s);
}

void Drafter::propose(std::vector<Scheduler::Work>& works, Scheduler& scheduler) {
  std::vector<Scheduler::Work*>& answering = answering_;
  answering.clear();
  for (auto& work : works) {
    if (!work.sequence->decoding()) continue;
    answering.push_back(&work);
    work.sequence->drafting.ahead.clear();
  }
  answers_only_ = answering.size() == works.size();
  mtp_account_.step(), text_account_.step(), filling_ = 0;
  if (option_ == 0 || answering.empty()) return;
  const auto answers = static_cast<int64_t>(answering.size());
  const bool automatic = option_ < 0;
  if (automatic && (!answers_only_ || answering.size() > kFewAnswers || !times_.fresh(answers))) return;

  const std::size_t count = answering.size();
  if (candidates_.size() < count) candidates_.resize(count), offers_.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    candidates_[i].work = answering[i];
    choose(candidates_[i], offers_[i], answers);
  }
  const auto offers = std::span<const DraftOffer>(offers_).first(count);
  const std::span<const int64_t> best = automatic ? choice_.best(times_, answers, offers) : std::span<const int64_t>();
  for (std::size_t i = 0; i < count; ++i) {
    Candidate& c = candidates_[i];
    Sequence& s = *c.work->sequence;
    const int64_t drafts = scheduler.widen(*c.work, automatic ? best[i] : static_cast<int64_t>(offers[i].gains.size()));
    if (drafts == 0) continue;
    s.drafting.source = c.source;
    s.drafting.ahead = {s.tokens.back()};
    if (c.source == DraftSource::kMtp) {
      draft_mtp(s, drafts);
    } else {
      s.drafting.ahead.insert(s.drafting.ahead.end(), c.match.next.begin(), c.match.next.begin() + drafts);
    }
    s.answer->usage.drafted_tokens += drafts;
    drafted_ += drafts;
  }
}

void Drafter::choose(Candidate& candidate, DraftOffer& offer, int64_t answers) {
  Sequence& s = *candidate.work->sequence;
  if (!s.drafting.acceptance) {
    s.drafting.acceptance = overall_;
    s.drafting.acceptance->remember(kAnswerMemory);
  }
  s.drafting.acceptance->step();
  const int64_t most = std::min(option_ < 0 ? kMostDrafts : int64_t{option_}, s.answer->room() - 1);
  candidate.source = DraftSource::kMtp;
  make_offer(s, DraftSource::kMtp, most > 0 && uses_mtp(s) ? std::min(most, kMostMtp) : 0, offer);
  if (most < 1 || (option_ < 0 && !text_account_.open())) return;
  look_up(s.tokens, most, candidate.match);
  if (candidate.match.length == 0) return;
  const DraftSource source = match_source(candidate.match.length);
  make_offer(s, source, most, lookup_);
  if (worth(lookup_, answers) <= worth(offer, answers)) return;
  candidate.source = source;
  std::swap(offer, lookup_);
}

void Drafter::make_offer(const Sequence& s, DraftSource source, int64_t most, DraftOffer& offer) const {
  offer.seconds = source == DraftSource::kMtp && mtp_seconds_.settled() ? mtp_seconds_.seconds() : 0;
  offer.gains.clear();
  double all = 1;
  for (int64_t i = 0; i < most; ++i) offer.gains.push_back(all *= s.drafting.acceptance->chance(source, i));
}

// Tokens a second if this were the only answer that drafts; where the number is given, tokens.
double Drafter::worth(const DraftOffer& offer, int64_t answers) const {
  double tokens = static_cast<double>(answers), best = 0;
  for (std::size_t i = 0; i < offer.gains.size(); ++i) {
    tokens += offer.gains[i];
    const auto drafts = static_cast<int64_t>(i + 1);
    const double seconds =
        option_ < 0 ? times_.expect(answers + drafts) + static_cast<double>(drafts) * offer.seconds : 1;
    best = std::max(best, tokens / seconds);
  }
  return best;
}

// Appends to the sequence's `ahead`, which holds the token before.
void Drafter::draft_mtp(Sequence& s, int64_t count) {
  const auto start = Clock::now();
  std::vector<int32_t>& ahead = s.drafting.ahead;
  fill(s, s.computed - s.drafting.filled, /*absorbed=*/true, Logits::kLast);
  ahead.push_back(argmax(result_.row(0, model_.config().vocab_size)));
  while (static_cast<int64_t>(ahead.size()) <= count) {
    // The layer's own state in place of the model's; the records it leaves are written again when the token is sure.
    std::swap(state_, result_.final);
    const SequenceChunk chunk{.tokens = std::span(ahead).last(1),
                              .start = s.computed - 2 + static_cast<int64_t>(ahead.size()),
                              .pages = s.addresses,
                              .absorbed = true};
    model_.forward_mtp(threads_, chunk, state_, result_);
    ahead.push_back(argmax(result_.row(0, model_.config().vocab_size)));
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  mtp_seconds_.add(seconds / static_cast<double>(count));
  mtp_account_.add(0, std::min(seconds, 2 * mtp_seconds_.seconds() * static_cast<double>(count)));
}

// The MTP layer's records of the next `rows` positions.
void Drafter::fill(Sequence& s, int64_t rows, bool absorbed, Logits logits) {
  DraftState& d = s.drafting;
  const SequenceChunk chunk{
      .tokens = std::span(s.tokens).subspan(static_cast<std::size_t>(d.filled + 1), static_cast<std::size_t>(rows)),
      .start = d.filled,
      .pages = s.addresses,
      .absorbed = absorbed,
      .logits = logits};
  const auto values = rows * hidden_;
  model_.forward_mtp(threads_, chunk, std::span(d.states).first(static_cast<std::size_t>(values)), result_);
  d.states.erase(d.states.begin(), d.states.begin() + values);
  if (rows > kFillRows) d.states.shrink_to_fit();  // a prompt's are many, an answer's few
  d.filled += rows;
}

void Drafter::computed(const Scheduler::Work& work, std::span<const float> states) {
  Sequence& s = *work.sequence;
  if (!uses_mtp(s)) return;
  s.drafting.states.insert(s.drafting.states.end(), states.begin(), states.end());
  // Up to the last position whose next token is known, and without it: the next draft starts from there.
  const int64_t ready = std::min(s.computed, s.size() - 2) - s.drafting.filled;
  if (ready < kFillRows) return;
  const auto start = Clock::now();
  fill(s, ready, work.absorbed, Logits::kNone);
  // A prompt's records are not counted: one that is long would settle the matter before an answer has begun.
  if (work.start >= s.prompt_size()) filling_ += std::chrono::duration<double>(Clock::now() - start).count();
}

void Drafter::verified(const Scheduler::Work& work, int64_t accepted, bool ended) {
  DraftState& d = work.sequence->drafting;
  const int64_t tried = ended ? accepted : static_cast<int64_t>(d.ahead.size()) - 1;
  d.acceptance->add(d.source, tried, accepted);
  overall_.step();
  overall_.add(d.source, tried, accepted);
  accepted_ += accepted;
  const auto answers = static_cast<int64_t>(answering_.size());
  DraftAccount& account = d.source == DraftSource::kMtp ? mtp_account_ : text_account_;
  account.add(static_cast<double>(accepted) * times_.expect(answers) / static_cast<double>(answers), 0);
}

void Drafter::given_up(const std::vector<Scheduler::Work>& works) {
  for (const auto& work : works) {
    work.sequence->answer->usage.drafted_tokens -= work.drafts;
    drafted_ -= work.drafts;
  }
}

void Drafter::timed(const std::vector<Scheduler::Work>& works, double seconds, int64_t experts) {
  if (!answers_only_) return;
  const auto answers = static_cast<int64_t>(works.size());
  int64_t drafts = 0, by_mtp = 0;
  for (const auto& work : works) {
    drafts += work.drafts;
    if (work.sequence->drafting.source == DraftSource::kMtp) by_mtp += work.drafts;
  }
  times_.add(answers + drafts, seconds - filling_);
  if (chosen_ > 0) times_.read(answers + drafts, static_cast<double>(experts) / static_cast<double>(chosen_));
  if (option_ >= 0) return;
  const double plain = times_.expect(answers);
  if (drafts > 0) {  // what other programs have taken of the time does not count
    const double more = std::clamp(seconds - filling_ - plain, 0.0, 2 * times_.expect(answers + drafts));
    const double share = static_cast<double>(by_mtp) / static_cast<double>(drafts);
    mtp_account_.add(0, more * share), text_account_.add(0, more * (1 - share));
  }
  mtp_account_.add(0, std::min(filling_, plain));
  mtp_account_.judge(plain), text_account_.judge(plain);
}

}  // namespace sonde
