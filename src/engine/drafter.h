// Speculative decoding (Leviathan et al. 2023, arXiv 2211.17192): tokens are guessed, a step computes the logits behind
// all of them at once, and the right ones count.
//
// The rule there accepts a drafted x with chance min(1, p(x) / q(x)) and else draws from max(p - q, 0). Every draft
// here is one certain token, q(x) = 1, and then that is: draw from p; x is accepted if it was drawn. So the answer
// chooses from the logits as it always does (answer.h) and drafts decide only what a step computes: answers, sampled
// ones too, are those of decoding token by token.
//
// Drafts come from the text so far (lookup.h) or from the MTP layer (DeepSeek-V3, section 2.2). That layer has records
// of its own in the pages; the record of position i joins the state of i with token i + 1, so it is written when both
// are known, for prompts a chunk at a time. A page's last record belongs to the token after the page: where pages are
// shared it may be another answer's, and pages that were written while the layer paused (DraftAccount) have none: what
// the layer sees is then a guess a little worse, never a wrong token.
#pragma once

#include <span>
#include <vector>

#include "engine/draft_costs.h"
#include "engine/lookup.h"
#include "engine/scheduler.h"

namespace sonde {

class Drafter {
 public:
  // `option`: EngineOptions::draft.
  Drafter(Model& model, ThreadPool& threads, int option);

  // forward() has to give the states of the sequence's rows. From its first step to its last or to a pause of the MTP
  // layer: the layer's records are written for all of a text or not at all.
  bool wants_states(Sequence& sequence) const;
  // Before a step: drafts for answers under way, where there are any and they pay.
  void propose(std::vector<Scheduler::Work>& works, Scheduler& scheduler);
  // `work` is in the pages, without the drafts that were wrong; `states` [count, hidden_size] are its tokens'.
  void computed(const Scheduler::Work& work, std::span<const float> states);
  // Of `work`'s drafts so many were right; the answer chose another token then, or came to its end.
  void verified(const Scheduler::Work& work, int64_t accepted, bool ended);
  // The step was given up: its drafts were never judged and count as not made, but for the time that they took.
  void given_up(const std::vector<Scheduler::Work>& works);
  // The step of the works last proposed took so long and read so many experts (ForwardResult::experts).
  void timed(const std::vector<Scheduler::Work>& works, double seconds, int64_t experts);

  int64_t drafted() const { return drafted_; }
  int64_t accepted() const { return accepted_; }

 private:
  // What an answer could draft, and from where.
  struct Candidate {
    Scheduler::Work* work;
    DraftSource source;
    Match match;  // of prompt lookup
  };
  void choose(Candidate& candidate, DraftOffer& offer, int64_t answers);
  void make_offer(const Sequence& sequence, DraftSource source, int64_t most, DraftOffer& offer) const;
  double worth(const DraftOffer& offer, int64_t answers) const;
  void draft_mtp(Sequence& sequence, int64_t count);
  bool uses_mtp(const Sequence& sequence) const { return mtp_ && sequence.drafting.trial == mtp_account_.trial(); }
  void fill(Sequence& sequence, int64_t rows, bool absorbed, Logits logits);

  Model& model_;
  ThreadPool& threads_;
  int option_;
  bool mtp_;
  int64_t hidden_;
  int64_t chosen_;  // experts that a row reads in all layers; 0: a dense model
  Acceptance overall_{32};
  StepTimes times_;
  Duration mtp_seconds_;  // of a draft
  DraftAccount mtp_account_{6, 512, 65536}, text_account_{3, 64, 4096};
  double filling_ = 0;  // seconds of the step under way that went to records which no draft wanted
  bool answers_only_ = false;
  // Of the step under way; kept so that a step of answers allocates nothing.
  std::vector<Scheduler::Work*> answering_;
  std::vector<Candidate> candidates_;  // of answering_; behind them, memory of earlier ones
  std::vector<DraftOffer> offers_;     // likewise
  DraftOffer lookup_;
  DraftChoice choice_;
  ForwardResult result_;
  AlignedVector<float> state_;
  int64_t drafted_ = 0, accepted_ = 0;
};

}  // namespace sonde
