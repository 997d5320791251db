// Who runs, and what each step computes. Every step takes one token of each answer under way, and shares a budget of
// prompt tokens among the sequences that are still reading.
//
// A step of several prompts ends with the shortest of them, so that its answer can begin.
//
// Prompts with a common beginning: whoever came first computes it, the others take its pages as they come.
//
// Pages: a sequence is admitted when its prompt fits beside what runs; first come, first served, nobody overtakes.
// Answers take pages as they grow. When none is left, the sequence that came last loses its pages and waits; later its
// prompt is computed again in the prefill form and its answer in the decode form, so its bits do not change. The pool
// holds at least one sequence of full length, so the one that came first always goes on, and with it everything.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "engine/sequence.h"

namespace sonde {

struct ScheduleOptions {
  int max_batch = 8;
  int64_t prefill_chunk = 1024;  // multiples of kPageTokens: alone, and beside answers
  int64_t chunk_beside = 256;
  bool absorbed_prompt = false;  // reproducible: prompts in the decode form, too
  bool one_form = false;         // prompts and answers leave the same bits (reproducible, or Model::has_two_forms() denies it)
};

class Scheduler {
 public:
  struct Work {
    Sequence* sequence;
    int64_t start, count;  // tokens
    bool absorbed;
    bool logits;         // of the last of them
    int64_t drafts = 0;  // so many at the end are guesses (drafting.ahead); then the logits of all
  };

  Scheduler(PagePool& pool, PrefixCache& cache, ScheduleOptions options)
      : pool_(pool), cache_(cache), options_(options) {}

  void add(std::unique_ptr<Sequence> sequence);
  // Ends what its caller has given up, and drops what has ended.
  void sweep();
  // Work of the next step, its pages ready to be written; the caller's until the next call. Empty: nothing to do.
  std::vector<Work>& next_step();
  // Someone waits for what the step computes: the caller of a sequence in it, or one whose prompt begins like one of
  // these and comes behind it.
  bool wanted() const;
  // Pages for up to `drafts` guesses behind an answer's token, as far as they can be had without taking any from
  // others; returns how many fit. The work counts them from then on.
  int64_t widen(Work& work, int64_t drafts);
  // `work` is in the pages; of guesses, its count holds those that were right.
  void done(const Work& work);
  // The followers of a sequence whose prompt is computed: those that may run now share its pages and are returned.
  std::vector<Sequence*> fork(Sequence& leader);

  bool idle() const { return running_.empty() && waiting_.empty(); }
  int running() const { return static_cast<int>(running_.size()); }
  int waiting() const;
  int64_t preemptions() const { return preemptions_; }
  int64_t hit_tokens() const { return hit_tokens_; }
  // f(sequence) for every sequence, followers too.
  template <class F>
  void each(F&& f) const {
    for (const auto& sequence : running_) with_followers(*sequence, f);
    for (const auto& sequence : waiting_) with_followers(*sequence, f);
  }

 private:
  void wait(std::unique_ptr<Sequence> sequence);
  void run(std::unique_ptr<Sequence> sequence);
  void admit();
  bool make_room(Sequence& sequence);  // for its next token
  PageId obtain(const Sequence& sequence);
  void preempt_last();
  void release(Sequence& sequence);
  int prefill_rows(const Sequence& sequence, int64_t page) const;
  void share_prefill();
  PageKey key_of_next_page(const Sequence& sequence) const;
  void adopt(Sequence& sequence);  // the next pages of its prompt, as far as they are known by now
  // An earlier sequence is about to compute the next page of its prompt: those behind it are awaiting_ that.
  bool another_reads(const Sequence& sequence) const;
  template <class F>
  static void with_followers(Sequence& sequence, F& f) {
    f(sequence);
    for (const auto& follower : sequence.followers) with_followers(*follower, f);
  }

  PagePool& pool_;
  PrefixCache& cache_;
  ScheduleOptions options_;
  std::deque<std::unique_ptr<Sequence>> waiting_;   // by arrival
  std::vector<std::unique_ptr<Sequence>> running_;  // by arrival
  std::vector<Work> works_, reading_;               // of the step; reading_: of prompts
  std::vector<const Sequence*> awaiting_;           // of the step, not in it
  int64_t turn_ = 0, preemptions_ = 0, hit_tokens_ = 0;
};

}  // namespace sonde
