// What happens to steps while they run. One that nobody waits for any more ends before its next layer; nothing of it is
// found later, and nobody else is touched. Prompts that are being read tell how far they are.
#include <gtest/gtest.h>

#include <chrono>
#include <mutex>
#include <thread>

#include "engine/fake_model.h"
#include "engine/watched_model.h"

namespace sonde::test {
namespace {

struct Watched {
  std::unique_ptr<Engine> engine;
  WatchedModel* model = nullptr;
};

// Known before the engine's thread begins: an engine with nothing to move rests at once.
struct Weights {
  int64_t to_move = 0;  // calls that find something to do
  int64_t bytes = 0;
};

Watched watched_engine(EngineOptions options, FakeTraits traits = {}, Weights weights = {}) {
  EngineParts parts;
  parts.weight_bytes = weights.bytes;
  auto model = std::make_unique<WatchedModel>(std::make_unique<FakeModel>(true, 4096, 0, traits));
  model->to_move = weights.to_move;
  Watched made{nullptr, model.get()};
  parts.model = std::move(model);
  made.engine = make_engine(std::move(parts), std::move(options)).value();
  return made;
}

Request request(std::vector<int32_t> prompt, int64_t count, uint64_t seed = 1) {
  Request r;
  r.prompt = std::move(prompt);
  r.max_tokens = count;
  r.sampling.seed = seed;
  r.loop_guard = false;
  return r;
}

void expect_right(const Collected& got, const Request& r, uint64_t sample = 0) {
  EXPECT_EQ(got.finish_reason, "length");
  EXPECT_EQ(got.ids, expected_answer(r.prompt, r.max_tokens, r.sampling, true, false, sample));
}

// Streams that a hook of the engine's thread can reach before submit() has returned them.
struct Late {
  std::mutex mutex;
  std::vector<std::unique_ptr<Stream>> streams;
  std::unique_lock<std::mutex> hold() { return std::unique_lock(mutex); }
  Stream& at(std::size_t i) {
    const auto lock = hold();
    return *streams[i];
  }
};

// Engines of one process share a pool, or where they want other numbers of threads take turns all the same: no layer of
// one runs beside a layer of the other, and answers are those of an engine alone.
TEST(Steps, OfTwoEnginesTakeTurns) {
  for (const int threads : {2, 3}) {
    std::atomic<int> inside = 0;
    std::atomic<int64_t> overlaps = 0, layers = 0;
    Watched engines[2];
    for (const bool second : {false, true}) {
      engines[second] = watched_engine({.threads = second ? threads : 2}, {.mtp = second});
      engines[second].model->at_layer = [&](int64_t, int64_t) {
        overlaps += inside++ > 0;
        std::this_thread::sleep_for(std::chrono::microseconds(100));
        --inside, ++layers;
      };
    }
    std::vector<std::pair<Request, std::unique_ptr<Stream>>> asked;
    for (uint64_t i = 0; i < 6; ++i) {
      const Request r = request(random_prompt(static_cast<int64_t>(20 + 30 * i), i), 60, i);
      asked.emplace_back(r, engines[i % 2].engine->submit(r).value());
    }
    for (auto& [r, stream] : asked) expect_right(collect(*stream), r);
    for (Watched& one : engines) one.engine.reset();
    EXPECT_EQ(overlaps, 0);
    EXPECT_GT(layers, 2 * 2 * 60 / 4);  // drafts that were right save steps
  }
}

TEST(Step, OfAPromptIsGivenUpBetweenLayers) {
  for (int64_t step : {0, 1, 3}) {
    for (int64_t layer : {0, 1}) {
      Late late;
      Watched w = watched_engine({.threads = 2, .prefill_chunk = 64});
      w.model->at_layer = [&](int64_t s, int64_t l) {
        if (s == step && l == layer) late.at(0).cancel();
      };
      const Request r = request(random_prompt(300, 3), 20);
      {
        const auto lock = late.hold();
        late.streams.push_back(w.engine->submit(r).value());
      }
      const Collected cut = collect(late.at(0));
      EXPECT_EQ(cut.finish_reason, "cancelled");
      EXPECT_TRUE(cut.ids.empty());
      EXPECT_EQ(w.model->given_up, 1);
      const auto stats = when_idle(*w.engine);
      EXPECT_EQ(stats.pages_used, 0);
      EXPECT_EQ(stats.steps, step);
      // What was whole is found again; what was not is computed.
      const auto again = w.engine->submit(r).value();
      const Collected whole = collect(*again);
      EXPECT_EQ(whole.usage.cached_tokens, step * 64);
      expect_right(whole, r);
      EXPECT_EQ(when_idle(*w.engine).pages_used, 0);
    }
  }
}

TEST(Step, GoesOnForOthers) {
  for (const bool group : {false, true}) {
    for (int64_t step : {0, 1, 2, 8}) {  // of prompts, and of answers
      for (int64_t layer : {0, 1}) {
        Late late;
        Watched w = watched_engine({.threads = 2, .prefill_chunk = 64, .draft = 0});
        w.model->at_layer = [&](int64_t s, int64_t l) {
          if (s == step && l == layer) late.at(0).cancel();
          else if (s == 0) late.at(0);  // until all have been submitted: then they are there from the next step on
        };
        const Request a = request(random_prompt(100, 3), 30, 1), b = group ? a : request(random_prompt(90, 4), 30, 2);
        {
          const auto lock = late.hold();
          if (group) {
            late.streams = w.engine->submit_group(a, 3).value();
          } else {
            late.streams.push_back(w.engine->submit(a).value());
            late.streams.push_back(w.engine->submit(b).value());
          }
        }
        for (std::size_t i = 1; i < late.streams.size(); ++i) expect_right(collect(late.at(i)), b, group ? i : 0);
        EXPECT_EQ(collect(late.at(0)).finish_reason, "cancelled");
        if (step > 0 || group) { EXPECT_EQ(w.model->given_up, 0); }  // the other may have come a step later
        EXPECT_EQ(when_idle(*w.engine).pages_used, 0);
      }
    }
  }
}

// Waits until `so` holds, but not for ever.
template <class F>
bool comes(F&& so) {
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!so() && std::chrono::steady_clock::now() < patience) std::this_thread::yield();
  return so();
}

TEST(Step, OfAGroupIsGivenUpWhenAllOfItIs) {
  Watched w = watched_engine({.threads = 1, .prefill_chunk = 64});
  w.model->endless = true;
  auto streams = w.engine->submit_group(request(random_prompt(100, 3), 30), 3).value();
  EXPECT_TRUE(comes([&] { return w.model->begun == 1; }));
  streams[0]->cancel(), streams[2]->cancel();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // a step that is given up too early would be by now
  EXPECT_EQ(w.model->given_up, 0);
  streams[1]->cancel();
  EXPECT_TRUE(comes([&] { return w.model->given_up == 1; }));
  w.model->endless = false;
  for (auto& stream : streams) EXPECT_EQ(collect(*stream).finish_reason, "cancelled");
  EXPECT_EQ(when_idle(*w.engine).pages_used, 0);
}

// A prompt that begins like the one that is cancelled waits for its pages: the step is finished for it.
TEST(Step, GoesOnForAPromptThatBeginsAlike) {
  for (const bool both : {false, true}) {
    Late late;
    Watched w = watched_engine({.threads = 1, .prefill_chunk = 64});
    const Request a = request(random_prompt(300, 3), 20);
    Request b = a;
    b.prompt.resize(200), b.prompt.push_back(7);
    w.model->at_layer = [&](int64_t s, int64_t l) {
      const auto lock = late.hold();
      if (s == 0 && l == 0) late.streams.push_back(w.engine->submit(b).value());
      if (s == 1 && l == 1) late.streams[0]->cancel();
      if (s == 1 && l == 1 && both) late.streams[1]->cancel();
    };
    {
      const auto lock = late.hold();
      late.streams.push_back(w.engine->submit(a).value());
    }
    EXPECT_EQ(collect(late.at(0)).finish_reason, "cancelled");
    const Collected got = collect(late.at(1));
    EXPECT_EQ(w.model->given_up, both ? 1 : 0);
    EXPECT_EQ(got.usage.cached_tokens, both ? 64 : 128);
    if (!both) expect_right(got, b);
    EXPECT_EQ(when_idle(*w.engine).pages_used, 0);
  }
}

TEST(Step, TheEngineEndsWithinOne) {
  std::unique_ptr<Stream> stream;
  {
    Watched w = watched_engine({.threads = 1});
    w.model->endless = true;
    stream = w.engine->submit(request(random_prompt(100, 3), 30)).value();
    EXPECT_TRUE(comes([&] { return w.model->begun == 1; }));
  }
  EXPECT_EQ(collect(*stream).finish_reason, "cancelled");
}

// Drafts of a step that was given up are not counted: nobody knows whether they were right.
TEST(Step, DraftsOfOneThatWasGivenUpDoNotCount) {
  for (const bool mtp : {false, true}) {
    int64_t judged = 0;
    for (int64_t step = 3; step < 30; ++step) {
      Late late;
      Watched w = watched_engine({.threads = 1, .draft = 3}, {.mtp = mtp, .echo = mtp ? 0 : 9});
      w.model->at_layer = [&](int64_t s, int64_t) {
        if (s == step) late.at(0).cancel();
      };
      {
        const auto lock = late.hold();
        late.streams.push_back(w.engine->submit(request(random_prompt(40, 5), 300)).value());
      }
      const Collected got = collect(late.at(0));
      EXPECT_EQ(got.finish_reason, "cancelled");
      EXPECT_EQ(w.model->given_up, 1);
      EXPECT_EQ(got.usage.drafted_tokens, w.model->judged) << step;
      EXPECT_EQ(when_idle(*w.engine).drafted_tokens, w.model->judged) << step;
      judged += w.model->judged;
    }
    EXPECT_GT(judged, 0);
  }
}

TEST(Step, TellsHowFarAPromptIs) {
  Late late;
  Watched w = watched_engine({.threads = 1, .prefill_chunk = 128});
  std::vector<std::vector<int64_t>> seen(2);
  w.model->at_layer = [&](int64_t, int64_t) {
    const auto lock = late.hold();
    for (std::size_t i = 0; i < late.streams.size(); ++i) seen[i].push_back(late.streams[i]->prompt_read());
  };
  const Request r = request(random_prompt(300, 3), 1);
  {
    const auto lock = late.hold();
    late.streams = w.engine->submit_group(r, 2).value();
  }
  for (auto& stream : late.streams) collect(*stream);
  for (const auto& steps : seen) EXPECT_EQ(steps, (std::vector<int64_t>{0, 64, 128, 192, 256, 256 + 44 / 2}));
  when_idle(*w.engine);
  for (auto& stream : late.streams) EXPECT_EQ(stream->prompt_read(), 300);
  seen[0].clear();
  {
    const auto lock = late.hold();
    late.streams.clear();
    late.streams.push_back(w.engine->submit(r).value());
  }
  collect(late.at(0));
  EXPECT_EQ(seen[0], (std::vector<int64_t>{288, 288 + 12 / 2}));  // behind what the cache knew
}

// A prompt that comes while a long one is read: their first step together is as small as its own tokens allow.
TEST(Step, OfSeveralPromptsEndsWithTheShortest) {
  for (int64_t length : {20, 100, 1000}) {
    Late late;
    Watched w = watched_engine(
        {.threads = 1, .prefill_chunk = 256, .chunk_beside = 64, .prefix_cache = false, .draft = 0});
    const Request a = request(random_prompt(1000, 3), 2), b = request(random_prompt(length, 4), 2);
    w.model->at_layer = [&](int64_t s, int64_t l) {
      const auto lock = late.hold();
      if (s == 0 && l == 1) late.streams.push_back(w.engine->submit(b).value());
    };
    {
      const auto lock = late.hold();
      late.streams.push_back(w.engine->submit(a).value());
    }
    expect_right(collect(late.at(0)), a);
    expect_right(collect(late.at(1)), b);
    when_idle(*w.engine);
    const auto& tokens = w.model->tokens;
    EXPECT_EQ(tokens[0], 256);
    EXPECT_EQ(tokens[1], length == 20 ? 20 + 64 : length == 100 ? 100 + 160 : 256);
    if (length < 1000) { EXPECT_EQ(tokens[2], 1 + 64); }  // its answer has begun
  }
}

// Weights move while nobody waits for a prompt: when the engine has nothing to do, and after steps of answers.
TEST(Step, WeightsMoveBetweenThoseOfAnswers) {
  std::vector<int64_t> moved;  // before each step
  Watched w = watched_engine({.threads = 1, .prefill_chunk = 64, .draft = 0}, {}, {.to_move = 1'000'000'000});
  w.model->at_layer = [&](int64_t, int64_t l) {
    if (l == 0) moved.push_back(w.model->moved);
  };
  EXPECT_TRUE(comes([&] { return w.model->moved > 3; }));  // nothing to do
  const Request r = request(random_prompt(300, 3), 6);
  expect_right(collect(*w.engine->submit(r).value()), r);
  EXPECT_TRUE(comes([&, before = w.model->moved.load()] { return w.model->moved > before + 3; }));
  ASSERT_EQ(moved.size(), 5u + 5u);
  for (std::size_t i = 1; i < moved.size(); ++i) EXPECT_EQ(moved[i] - moved[i - 1], i < 6 ? 0 : 1) << i;
}

TEST(Step, WeightsRestWhenAllOfThemHaveMoved) {
  Watched w = watched_engine({.threads = 1}, {}, {.to_move = 5});
  EXPECT_TRUE(comes([&] { return w.model->moved == 6; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(w.model->moved, 6);
}

TEST(Step, WeightsThatDoNotFitBesideTheCacheStayWhereTheyAre) {
  Watched w = watched_engine({.threads = 1, .context = 512, .draft = 0}, {},
                             {.to_move = 1'000'000'000, .bytes = int64_t{1} << 60});
  const Request r = request(random_prompt(100, 3), 6);
  expect_right(collect(*w.engine->submit(r).value()), r);
  when_idle(*w.engine);
  EXPECT_EQ(w.model->moved, 0);
}

}  // namespace
}  // namespace sonde::test
