// A request in the engine: its tokens, and how far the model has come with them.
#pragma once

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "engine/answer.h"
#include "engine/draft_costs.h"
#include "engine/prefix_cache.h"

namespace sonde {

using Clock = std::chrono::steady_clock;

// What drafter.h keeps of a sequence.
struct DraftState {
  std::vector<int32_t> ahead;  // the last token and those guessed behind it, for one step; empty: none guessed
  DraftSource source{};        // of the guesses
  std::optional<Acceptance> acceptance;  // none before the first draft
  int64_t trial = 0;                     // of the MTP layer (DraftAccount) that it is part of; 0: not known yet, -1: none
  int64_t filled = 0;                    // positions whose records of the MTP layer are written
  std::vector<float> states;             // [hidden_size] each, of the positions from `filled` to `computed`
};

struct Sequence {
  Sequence(uint64_t arrival_order, std::shared_ptr<const Request> what)
      : order(arrival_order), request(std::move(what)) {
    tokens = request->prompt;
  }

  uint64_t order;  // of arrival; whoever came first is served first and gives way last
  std::shared_ptr<const Request> request;
  std::unique_ptr<Answer> answer;
  std::vector<int32_t> tokens;    // prompt, then answer
  int64_t computed = 0;           // tokens whose keys and values are in the pages
  std::vector<PageId> pages;      // enough for `computed`, and for the whole prompt once it runs
  std::vector<std::byte*> addresses;  // of the pages
  std::vector<PageKey> keys;      // of the full pages
  DraftState drafting;
  bool interrupted = false;                          // ran before and lost its pages
  std::vector<std::unique_ptr<Sequence>> followers;  // the other answers to this prompt; they start when it is computed

  Clock::time_point submitted{}, started{}, answering{};

  int64_t prompt_size() const { return static_cast<int64_t>(request->prompt.size()); }
  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
  // One token of the answer is all that is left to compute.
  bool decoding() const { return computed >= prompt_size() && computed + 1 == size(); }
  // Neither its caller nor those of its followers wait for it any more.
  bool given_up() const {
    return answer->cancelled() &&
           std::all_of(followers.begin(), followers.end(), [](const auto& f) { return f->given_up(); });
  }
  void prompt_read(int64_t count) {
    count = std::min(count, prompt_size());
    answer->prompt_read(count);
    for (const auto& follower : followers) follower->answer->prompt_read(count);
  }
};

}  // namespace sonde
