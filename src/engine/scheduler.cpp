#include "engine/scheduler.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace sonde {
namespace {

template <class List>
void insert_by_arrival(List& list, std::unique_ptr<Sequence> sequence) {
  auto at = std::upper_bound(list.begin(), list.end(), sequence->order,
                             [](uint64_t order, const auto& other) { return order < other->order; });
  list.insert(at, std::move(sequence));
}

// Tokens of the prompt; of an interrupted sequence then those of the answer, which is computed again after it, in the
// form in which it was computed first.
int64_t left_to_read(const Sequence& s) {
  return (s.computed < s.prompt_size() ? s.prompt_size() : s.size()) - s.computed;
}

}  // namespace

void Scheduler::wait(std::unique_ptr<Sequence> sequence) { insert_by_arrival(waiting_, std::move(sequence)); }
void Scheduler::run(std::unique_ptr<Sequence> sequence) { insert_by_arrival(running_, std::move(sequence)); }
void Scheduler::add(std::unique_ptr<Sequence> sequence) { wait(std::move(sequence)); }

int Scheduler::waiting() const {
  int count = -running();
  each([&](const Sequence&) { ++count; });
  return count;
}

void Scheduler::sweep() {
  each([](Sequence& sequence) {
    if (sequence.answer->cancelled()) sequence.answer->end("cancelled");
  });
  std::vector<std::unique_ptr<Sequence>> orphans;
  const auto ended = [&](std::unique_ptr<Sequence>& sequence) {
    std::erase_if(sequence->followers, [](const auto& follower) { return follower->answer->ended(); });
    if (!sequence->answer->ended()) return false;
    std::move(sequence->followers.begin(), sequence->followers.end(), std::back_inserter(orphans));
    release(*sequence);
    return true;
  };
  std::erase_if(running_, ended);
  std::erase_if(waiting_, ended);
  for (auto& orphan : orphans) wait(std::move(orphan));
}

int Scheduler::prefill_rows(const Sequence& sequence, int64_t page) const {
  if (options_.one_form) return 0;
  return static_cast<int>(std::clamp<int64_t>(sequence.prompt_size() - page * kPageTokens, 0, kPageTokens));
}

void Scheduler::admit() {
  while (!waiting_.empty() && running() < options_.max_batch) {
    Sequence& s = *waiting_.front();
    // The last token is always computed: its logits are wanted.
    const auto hits = cache_.find(s.request->cache_salt, s.tokens, (s.size() - 1) / kPageTokens, s.interrupted,
                                  [&](int64_t page) { return prefill_rows(s, page); });
    int64_t needed = pages_for(s.size() + 1) - static_cast<int64_t>(hits.size());
    for (const auto& hit : hits) needed += pool_.references(hit.page) == 0;
    const int64_t spare = running_.empty() ? 0 : running() + 1;  // the others' next pages
    if (std::min(needed, pool_.size()) + spare > cache_.available()) return;

    for (const auto& hit : hits) {
      cache_.retain(hit.page);
      s.pages.push_back(hit.page);
      s.keys.push_back(hit.key);
    }
    while (static_cast<int64_t>(s.pages.size()) < pages_for(s.size())) {
      const PageId page = cache_.allocate();
      assert(page != kNoPage);
      s.pages.push_back(page);
    }
    s.addresses.clear();
    for (PageId page : s.pages) s.addresses.push_back(pool_.data(page));
    s.computed = s.drafting.filled = static_cast<int64_t>(hits.size()) * kPageTokens;
    hit_tokens_ += s.computed;
    if (!s.interrupted) {
      s.started = Clock::now();
      s.answer->usage.cached_tokens = s.computed;
    }
    run(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

void Scheduler::release(Sequence& s) {
  for (auto page = s.pages.rbegin(); page != s.pages.rend(); ++page) cache_.release(*page);
  s.pages.clear();
  s.addresses.clear();
  s.keys.clear();
  s.computed = s.drafting.filled = 0;
  s.drafting.states.clear();
}

void Scheduler::preempt_last() {
  std::unique_ptr<Sequence> s = std::move(running_.back());
  running_.pop_back();
  release(*s);
  s->interrupted = true;
  ++preemptions_;
  wait(std::move(s));
}

PageId Scheduler::obtain(const Sequence& sequence) {
  for (;;) {
    if (const PageId page = cache_.allocate(); page != kNoPage) return page;
    const bool itself = running_.back().get() == &sequence;
    preempt_last();
    if (itself) return kNoPage;
  }
}

bool Scheduler::make_room(Sequence& s) {
  const auto at = static_cast<std::size_t>(s.computed / kPageTokens);
  if (at == s.pages.size()) {
    const PageId page = obtain(s);
    if (page == kNoPage) return false;
    s.pages.push_back(page);
    s.addresses.push_back(pool_.data(page));
  } else if (pool_.references(s.pages[at]) > 1) {  // partly filled and shared with another answer
    const PageId page = obtain(s);
    if (page == kNoPage) return false;
    pool_.copy(s.pages[at], page);
    cache_.release(s.pages[at]);
    s.pages[at] = page;
    s.addresses[at] = pool_.data(page);
  }
  return true;
}

std::vector<Scheduler::Work>& Scheduler::next_step() {
  admit();
  for (std::size_t i = 0; i < running_.size(); ++i) {  // those that give way lie behind i
    if (running_[i]->decoding() && !make_room(*running_[i])) break;
  }
  works_.clear();
  for (const auto& s : running_) {
    if (s->decoding()) works_.push_back({s.get(), s->computed, 1, true, true});
  }
  share_prefill();
  return works_;
}

bool Scheduler::wanted() const {
  return std::any_of(works_.begin(), works_.end(), [](const Work& w) { return !w.sequence->given_up(); }) ||
         std::any_of(awaiting_.begin(), awaiting_.end(), [](const Sequence* s) { return !s->given_up(); });
}

int64_t Scheduler::widen(Work& work, int64_t drafts) {
  Sequence& s = *work.sequence;
  // Pages behind that of the answer's token were never shared. The others keep a next page each.
  while (static_cast<int64_t>(s.pages.size()) < pages_for(s.computed + 1 + drafts) && cache_.available() >= running()) {
    const PageId page = cache_.allocate();
    if (page == kNoPage) break;
    s.pages.push_back(page);
    s.addresses.push_back(pool_.data(page));
  }
  work.drafts = std::min(drafts, static_cast<int64_t>(s.pages.size()) * kPageTokens - s.computed - 1);
  work.count = 1 + work.drafts;
  return work.drafts;
}

PageKey Scheduler::key_of_next_page(const Sequence& s) const {
  const auto page = static_cast<int64_t>(s.keys.size());
  const std::span<const int32_t> ids(s.tokens.data() + page * kPageTokens, kPageTokens);
  return next_key(s.keys.empty() ? first_key(s.request->cache_salt) : s.keys.back(), ids, prefill_rows(s, page));
}

// A page that another sequence has computed since this one was admitted. The last token is computed all the same.
void Scheduler::adopt(Sequence& s) {
  const int64_t end = std::min(s.prompt_size(), s.size() - 1);
  while (cache_.enabled() && s.computed % kPageTokens == 0 && s.computed + kPageTokens <= end) {
    const PageKey key = key_of_next_page(s);
    const PageId page = cache_.same_bits(key);
    if (page == kNoPage) return;
    const auto at = static_cast<std::size_t>(s.computed / kPageTokens);
    cache_.retain(page);
    cache_.release(std::exchange(s.pages[at], page));
    s.addresses[at] = pool_.data(page);
    s.keys.push_back(key);
    s.computed += kPageTokens;
    s.drafting.filled = s.computed;
    hit_tokens_ += kPageTokens;
    if (!s.interrupted) s.answer->usage.cached_tokens += kPageTokens;
  }
}

bool Scheduler::another_reads(const Sequence& s) const {
  const int64_t end = s.computed + kPageTokens;
  if (!cache_.enabled() || s.computed % kPageTokens != 0 || end > std::min(s.prompt_size(), s.size() - 1)) return false;
  for (const auto& other : running_) {  // by arrival
    if (other.get() == &s) return false;
    if (other->computed <= s.computed && other->prompt_size() >= end &&
        other->request->cache_salt == s.request->cache_salt && other->keys.size() <= s.keys.size() &&
        std::equal(other->keys.begin(), other->keys.end(), s.keys.begin()) &&
        std::equal(s.tokens.begin(), s.tokens.begin() + end, other->tokens.begin()))
      return true;
  }
  return false;
}

// Page by page in turns, so that a short prompt is not kept by a long one; who begins changes from step to step.
void Scheduler::share_prefill() {
  std::vector<Work>& reading = reading_;
  reading.clear(), awaiting_.clear();
  for (const auto& s : running_) {
    if (s->decoding()) continue;
    adopt(*s);
    s->prompt_read(s->computed);
    if (another_reads(*s)) {
      awaiting_.push_back(s.get());
    } else {
      reading.push_back({s.get(), s->computed, 0, false, false});
    }
  }
  if (reading.empty()) return;
  std::rotate(reading.begin(), reading.begin() + turn_++ % static_cast<int64_t>(reading.size()), reading.end());
  int64_t budget = options_.prefill_chunk;
  const int64_t small = std::min(budget, options_.chunk_beside);
  if (!works_.empty()) budget = small;
  if (reading.size() > 1) {  // the step ends with the shortest of them: its answer can begin
    const auto shortest = std::min_element(reading.begin(), reading.end(), [](const Work& a, const Work& b) {
      return a.sequence->size() - a.sequence->computed < b.sequence->size() - b.sequence->computed;
    });
    const int64_t left = shortest->sequence->size() - shortest->sequence->computed;
    const auto all = static_cast<int64_t>(reading.size()) * pages_for(left) * kPageTokens;
    budget = std::clamp(all, small, budget);
  }
  for (bool any = true; any && budget > 0;) {
    any = false;
    for (Work& work : reading) {
      const Sequence& s = *work.sequence;
      // A prompt's chunks end at page borders or at its end.
      const int64_t end = s.computed + left_to_read(s);
      const int64_t from = work.start + work.count;
      const int64_t border = std::min(end, (from / kPageTokens + 1) * kPageTokens);
      if (from >= end || budget <= 0) continue;
      work.count = border - work.start;
      budget -= border - from;
      any = true;
    }
  }
  for (Work& work : reading) {
    if (work.count == 0) continue;
    work.absorbed = options_.absorbed_prompt || work.start >= work.sequence->prompt_size();
    work.logits = work.start + work.count == work.sequence->size();
    works_.push_back(work);
  }
}

void Scheduler::done(const Work& work) {
  Sequence& s = *work.sequence;
  s.computed += work.count;
  s.prompt_read(s.computed);
  if (!cache_.enabled()) return;
  while (static_cast<int64_t>(s.keys.size()) < s.computed / kPageTokens) {
    s.keys.push_back(key_of_next_page(s));
    cache_.keep(s.pages[s.keys.size() - 1], s.keys.back());
  }
}

std::vector<Sequence*> Scheduler::fork(Sequence& leader) {
  std::vector<Sequence*> started;
  auto followers = std::exchange(leader.followers, {});
  for (auto& follower : followers) {
    if (running() >= options_.max_batch) {
      wait(std::move(follower));
      continue;
    }
    follower->pages = leader.pages;
    follower->addresses = leader.addresses;
    follower->keys = leader.keys;
    follower->computed = leader.computed;
    follower->drafting = leader.drafting;
    follower->started = Clock::now();
    follower->answer->usage.cached_tokens = leader.computed;
    for (PageId page : follower->pages) cache_.retain(page);
    started.push_back(follower.get());
    run(std::move(follower));
  }
  return started;
}

}  // namespace sonde
