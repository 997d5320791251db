// Start here. An Engine is a loaded model that serves many requests at once.
//
//   auto engine = sonde::Engine::open("models/mini", {});
//   auto stream = engine.value()->submit({.prompt = ids, .max_tokens = 100});
//   for (sonde::Event event; stream.value()->next(event);) fputs(event.text.c_str(), stdout);
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sonde/result.h"
#include "sonde/sampling.h"

namespace sonde {

class Tokenizer;
class Dialect;
class Checkpoint;
class Model;

struct EngineOptions {
  int threads = 0;               // 0: as many as the process may use
  int64_t context = 0;           // tokens a sequence may hold; 0: as much of the model's own as memory allows
  int max_batch = 8;             // sequences that run at once
  int64_t prefill_chunk = 1024;  // tokens of prompts in one step; rounded up to a multiple of the page size
  int64_t chunk_beside = 256;    // the same while others are being answered, who wait for the step; several prompts that are
                                 // read together take steps as long as the shortest of them, but not below this
  int64_t kv_bytes = 0;          // memory for the cache; 0: planned from what is free
  bool prefix_cache = true;      // reuse pages of equal beginnings
  bool exact = false;            // F32 activations on the weights as stored; else bytes on packed weights, a BF16 cache
  int64_t fast_from = 0;         // files of fewer bytes run exactly all the same: small models are quick, and feel rounding most
  bool reproducible = false;     // one form of attention throughout: equal bits everywhere, slower prefill with MLA
  int draft = -1;                // tokens guessed ahead and checked together; never changes an answer. -1: as many as pay; 0: none; k: at most k
  std::string dialect = {};      // empty: the checkpoint's own
  std::function<void(const std::string&)> notice = {};  // one line for the person who started this; may be empty
  std::function<void(int64_t, int64_t)> progress = {};  // while the weights are loaded: bytes done and to do
  std::string cache = {};        // folder where packed weights are kept for the next start; empty: nowhere
};

struct ThinkBudget {
  int tokens = -1;               // -1: no limit; after so many tokens of thought it is closed with `closing` and </think>
  std::string closing = "\n\nI have thought long enough; here is my answer.\n";
};

struct Request {
  std::vector<int32_t> prompt = {};        // token ids, fed as given; must not be empty
  int64_t max_tokens = -1;                 // -1: until the context is full
  SamplingOptions sampling = {};
  std::vector<std::string> stop = {};      // texts that end the answer; not part of it
  bool ignore_eos = false;                 // run to max_tokens
  int logprobs = -1;                       // -1: none; 0 ... 20: that many alternatives beside the chosen token's own
  ThinkBudget think = {};                  // counts while the output is inside <think>
  bool thinking = false;                   // the prompt ends inside an open <think>
  bool loop_guard = true;                  // ends an answer that only repeats itself, finish_reason "loop"
  std::string cache_salt = {};             // only requests of equal salt share pages of the prefix cache
};

struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0;                       // natural logarithm under temperature 1, before top-p and penalties
};

struct Usage {
  // completion_tokens counts the ids given (without the end token), reasoning_tokens those of them inside <think>.
  int64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0, reasoning_tokens = 0;
  int64_t drafted_tokens = 0, accepted_tokens = 0;  // guessed ahead; of those, the right ones
  double prefill_seconds = 0, decode_seconds = 0, queue_seconds = 0;
};

// One step of an answer. Text may lag behind ids: a character is given when it is whole, a possible stop text when it is excluded.
struct Event {
  std::vector<int32_t> ids;                // tokens since the last event (the end token that stopped the answer is left out)
  std::vector<uint8_t> thought;            // one for each id: 1 inside <think> (the closing tag included)
  std::string text;                        // control tokens written out, but for the end token
  std::vector<TokenLogprob> logprobs;      // one for each id, if asked for
  std::vector<std::vector<TokenLogprob>> top;  // their alternatives, best first
  std::string finish_reason;               // on the last event: "stop", "length", "loop", "cancelled", "error"; else empty
  std::optional<Error> error;              // with "error"
  Usage usage;                             // on the last event
  uint64_t seed = 0;                       // on the last event: the seed that was used

  void clear();                            // as new, its memory kept
};

class Stream {
 public:
  virtual ~Stream() = default;             // cancels what still runs
  // Waits for the next event; false after the last one has been given.
  virtual bool next(Event& event) = 0;
  // The same, waiting at most `milliseconds`: 1 an event, 0 none yet, -1 over.
  virtual int next_for(Event& event, int milliseconds) = 0;
  virtual void cancel() = 0;               // soon followed by an event with finish_reason "cancelled"
  // Tokens of the prompt that are computed or were found in the cache; grows within a step, too, layer by layer.
  virtual int64_t prompt_read() const = 0;
};

class Engine {
 public:
  static Result<std::unique_ptr<Engine>> open(const std::string& path, EngineOptions options);
  virtual ~Engine() = default;

  // Queues a request. Errors at once: an empty prompt, ids out of range, options out of range, a prompt that does not fit
  // (code kTooLarge, with both numbers).
  virtual Result<std::unique_ptr<Stream>> submit(Request request) = 0;

  // Several answers to one prompt, which is computed once: stream i draws from sample i of the seed, and stream 0 is what
  // submit() would give. Their pages are shared until an answer writes to one.
  virtual Result<std::vector<std::unique_ptr<Stream>>> submit_group(Request request, int samples) = 0;

  virtual const EngineOptions& options() const = 0;  // as planned: threads, context, kv_bytes filled in
  virtual const Checkpoint& checkpoint() const = 0;
  virtual Model& model() = 0;
  virtual const Tokenizer* tokenizer() const = 0;    // null: the checkpoint has none
  virtual const Dialect* dialect() const = 0;        // null: none known
  virtual Result<const Tokenizer*> require_tokenizer() const = 0;  // the error that says why there is none
  virtual Result<const Dialect*> require_dialect() const = 0;  // the error that says why there is none

  struct Stats { int running = 0, waiting = 0; int64_t pages_used = 0, pages_total = 0, steps = 0, prefix_hit_tokens = 0, preemptions = 0, drafted_tokens = 0, accepted_tokens = 0; };
  virtual Stats stats() const = 0;
};

}  // namespace sonde
