// The engine's promises, on a model that shows every mistake of paging (fake_model.h).
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/fake_model.h"

namespace sonde::test {
namespace {

Request request(std::vector<int32_t> prompt, int64_t count, uint64_t seed = 1, double temperature = 1) {
  Request r;
  r.prompt = std::move(prompt);
  r.max_tokens = count;
  r.sampling.seed = seed;
  r.sampling.temperature = temperature;
  return r;
}

Collected answer(Engine& engine, Request r) {
  auto stream = engine.submit(std::move(r));
  EXPECT_TRUE(stream.ok()) << (stream.ok() ? "" : stream.error().message());
  return stream.ok() ? collect(**stream) : Collected{};
}

TEST(Engine, AnswersAsPlainRecomputation) {
  for (bool latent : {false, true}) {
    for (int64_t chunk : {1, 32, 64, 512}) {
      Fake fake = fake_engine(latent, {.threads = 2, .prefill_chunk = chunk, .prefix_cache = false});
      ASSERT_TRUE(fake.engine);
      for (int64_t length : {1, 2, 31, 32, 33, 63, 64, 65, 100, 300}) {
        for (double temperature : {0.0, 1.0}) {
          Request r = request(random_prompt(length, 5), 70, 9, temperature);
          const auto want = expected_answer(r.prompt, 70, r.sampling, latent);
          const Collected got = answer(*fake.engine, r);
          EXPECT_EQ(got.ids, want) << latent << " chunk " << chunk << " length " << length;
          EXPECT_EQ(got.finish_reason, "length");
          EXPECT_EQ(got.usage.prompt_tokens, length);
          EXPECT_EQ(got.usage.completion_tokens, 70);
          EXPECT_EQ(got.seed, 9u);
        }
      }
      EXPECT_FALSE(fake.model->misaligned);
    }
  }
}

TEST(Engine, ReproducibleUsesTheDecodeFormThroughout) {
  Fake fake = fake_engine(true, {.reproducible = true});
  Request r = request(random_prompt(100, 5), 40);
  EXPECT_EQ(answer(*fake.engine, r).ids, expected_answer(r.prompt, 40, r.sampling, true, true));
}

// Little memory, many sequences: they lose their pages and come back, and nobody can tell.
TEST(Engine, MemoryPressureChangesNothing) {
  for (bool cache : {false, true}) {
    Fake fake = fake_engine(true, {.threads = 2,
                                   .context = 256,
                                   .max_batch = 8,
                                   .prefill_chunk = 64,
                                   .kv_bytes = 12 * kFakePage,
                                   .prefix_cache = cache});
    ASSERT_TRUE(fake.engine);
    std::vector<Request> requests;
    std::vector<std::unique_ptr<Stream>> streams;
    for (uint64_t i = 0; i < 40; ++i) {
      requests.push_back(request(random_prompt(static_cast<int64_t>(1 + mix(i, 1) % 100), i),
                                 1 + static_cast<int64_t>(mix(i, 2) % 150), i));
      auto stream = fake.engine->submit(requests.back());
      ASSERT_TRUE(stream.ok());
      streams.push_back(std::move(stream).value());
    }
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const Collected got = collect(*streams[i]);
      EXPECT_EQ(got.ids, expected_answer(requests[i].prompt, requests[i].max_tokens, requests[i].sampling, true)) << i;
      EXPECT_EQ(got.finish_reason, "length");
    }
    const auto stats = fake.engine->stats();
    EXPECT_GT(stats.preemptions, 0);
    EXPECT_FALSE(fake.model->misaligned);
  }
}

TEST(Engine, ReusesPagesOfEqualBeginnings) {
  Fake fake = fake_engine(true, {.threads = 1});
  const auto common = random_prompt(100, 3);
  auto a = common, b = common;
  a.push_back(1), b.push_back(2);
  const Request ra = request(a, 20), rb = request(b, 20);
  EXPECT_EQ(answer(*fake.engine, ra).usage.cached_tokens, 0);
  const Collected hit = answer(*fake.engine, rb);
  EXPECT_EQ(hit.usage.cached_tokens, 96);
  EXPECT_EQ(hit.ids, expected_answer(b, 20, rb.sampling, true));
  EXPECT_EQ(answer(*fake.engine, ra).usage.cached_tokens, 96);
  EXPECT_EQ(fake.engine->stats().prefix_hit_tokens, 192);
  // The last token of a prompt is computed anew, in a chunk that begins a page.
  const Request full = request(random_prompt(64, 8), 10);
  answer(*fake.engine, full);
  const Collected again = answer(*fake.engine, full);
  EXPECT_EQ(again.usage.cached_tokens, 32);
  EXPECT_EQ(again.ids, expected_answer(full.prompt, 10, full.sampling, true));
  EXPECT_FALSE(fake.model->misaligned);
}

TEST(Engine, SaltKeepsPagesApart) {
  Fake fake = fake_engine(true, {.threads = 1});
  Request r = request(random_prompt(100, 3), 5);
  answer(*fake.engine, r);
  r.cache_salt = "someone else";
  EXPECT_EQ(answer(*fake.engine, r).usage.cached_tokens, 0);
  EXPECT_EQ(answer(*fake.engine, r).usage.cached_tokens, 96);
}

// A second turn finds the answer's pages; in one form throughout, or without latent attention, that is the same bits.
TEST(Engine, ReusesPagesThatAnAnswerWrote) {
  for (const auto& [latent, reproducible] : {std::pair{true, true}, {false, false}, {true, false}}) {
    Fake fake = fake_engine(latent, {.threads = 1, .reproducible = reproducible});
    const Request first = request(random_prompt(40, 3), 100);
    Request second = first;
    const auto told = answer(*fake.engine, first).ids;
    second.prompt.insert(second.prompt.end(), told.begin(), told.end());
    second.prompt.push_back(4);
    const Collected got = answer(*fake.engine, second);
    EXPECT_EQ(got.usage.cached_tokens, 128);  // 141 tokens; the answer's last page is not full
    if (!latent || reproducible) {
      EXPECT_EQ(got.ids, expected_answer(second.prompt, 100, second.sampling, latent, reproducible));
    }
    EXPECT_EQ(got.ids.size(), 100u);
  }
}

TEST(Engine, ForgetsWhatWasUnusedForLongest) {
  // Eight pages; each prompt leaves two full ones.
  Fake fake = fake_engine(true, {.threads = 1, .context = 256, .kv_bytes = 8 * kFakePage});
  const auto prompt = [](uint64_t i) { return request(random_prompt(70, 100 + i), 3); };
  for (uint64_t i = 0; i < 3; ++i) EXPECT_EQ(answer(*fake.engine, prompt(i)).usage.cached_tokens, 0);
  EXPECT_EQ(answer(*fake.engine, prompt(0)).usage.cached_tokens, 64);
  EXPECT_EQ(answer(*fake.engine, prompt(3)).usage.cached_tokens, 0);  // takes the second page of 1
  EXPECT_EQ(answer(*fake.engine, prompt(0)).usage.cached_tokens, 64);
  EXPECT_EQ(answer(*fake.engine, prompt(1)).usage.cached_tokens, 32);
  for (uint64_t i = 0; i < 20; ++i) {
    const Request r = prompt(i % 5);
    EXPECT_EQ(answer(*fake.engine, r).ids, expected_answer(r.prompt, 3, r.sampling, true));
  }
  EXPECT_EQ(when_idle(*fake.engine).pages_used, 0);
}

// Requests that come while the first of them is still reading: only the first computes what they share.
TEST(Engine, PromptsThatBeginAlikeAreComputedOnce) {
  for (bool latent : {false, true}) {
    for (int64_t chunk : {32, 64, 512}) {
      Fake fake = fake_engine(latent, {.threads = 2, .max_batch = 8, .prefill_chunk = chunk}, {}, 512, 300);
      std::vector<Request> requests;
      std::vector<std::unique_ptr<Stream>> streams;
      for (uint64_t i = 0; i < 8; ++i) {
        auto prompt = random_prompt(200, 3);
        const auto own = random_prompt(static_cast<int64_t>(i * 13), 50 + i);  // the first is a beginning of the others
        prompt.insert(prompt.end(), own.begin(), own.end());
        requests.push_back(request(prompt, 10, i));
        streams.push_back(fake.engine->submit(requests.back()).value());
      }
      int64_t shared = 0;
      for (std::size_t i = 0; i < streams.size(); ++i) {
        const Collected got = collect(*streams[i]);
        EXPECT_EQ(got.ids, expected_answer(requests[i].prompt, 10, requests[i].sampling, latent)) << i;
        if (i > 0) { EXPECT_GE(got.usage.cached_tokens, 192) << i; }
        shared += got.usage.cached_tokens;
      }
      EXPECT_EQ(when_idle(*fake.engine).prefix_hit_tokens, shared);
      EXPECT_FALSE(fake.model->misaligned);
      EXPECT_EQ(when_idle(*fake.engine).pages_used, 0);
    }
  }
}

// Another salt shares nothing, whenever it comes.
TEST(Engine, PromptsOfOtherSaltsAreNotWaitedFor) {
  Fake fake = fake_engine(true, {.threads = 1, .prefill_chunk = 32}, {}, 512, 300);
  Request a = request(random_prompt(200, 3), 5), b = a;
  b.cache_salt = "b";
  auto one = fake.engine->submit(a).value(), two = fake.engine->submit(b).value();
  EXPECT_EQ(collect(*one).ids, collect(*two).ids);
  EXPECT_EQ(when_idle(*fake.engine).prefix_hit_tokens, 0);
}

TEST(Engine, ThePrefixCacheCanBeOff) {
  Fake fake = fake_engine(true, {.threads = 1, .prefix_cache = false});
  const Request r = request(random_prompt(100, 3), 5);
  answer(*fake.engine, r);
  EXPECT_EQ(answer(*fake.engine, r).usage.cached_tokens, 0);
}

TEST(Engine, AGroupSharesItsPromptAndCopiesOnWrite) {
  for (int64_t length : {1, 31, 32, 40, 64, 70}) {
    for (int samples : {1, 3, 11}) {
      for (int64_t pages : {5, 64}) {
        Fake fake = fake_engine(true, {.threads = 2, .context = 128, .max_batch = 4, .kv_bytes = pages * kFakePage});
        const Request r = request(random_prompt(length, 3), 50, 77);
        auto streams = fake.engine->submit_group(r, samples);
        ASSERT_TRUE(streams.ok());
        for (int i = 0; i < samples; ++i) {
          const Collected got = collect(*streams.value()[static_cast<std::size_t>(i)]);
          EXPECT_EQ(got.ids, expected_answer(r.prompt, 50, r.sampling, true, false, static_cast<uint64_t>(i)))
              << "length " << length << " sample " << i << " of " << samples << " pages " << pages;
        }
      }
    }
  }
}

TEST(Engine, AGroupOutlivesItsFirstAnswer) {
  Fake fake = fake_engine(true, {.threads = 1, .max_batch = 2}, {}, 512, 300);
  auto busy = fake.engine->submit_group(request(random_prompt(5, 1), 400), 2);
  const Request r = request(random_prompt(40, 3), 20, 5);
  auto streams = fake.engine->submit_group(r, 3);
  ASSERT_TRUE(busy.ok() && streams.ok());
  streams.value()[0].reset();  // cancelled while it waits, or soon after
  busy.value().clear();
  for (std::size_t i : {1, 2}) {
    EXPECT_EQ(collect(*streams.value()[i]).ids, expected_answer(r.prompt, 20, r.sampling, true, false, i));
  }
}

// A prompt alone goes by large chunks; beside an answer by small ones, so that the answer does not wait long.
TEST(Engine, PromptsGoBySmallerChunksBesideAnswers) {
  Fake fake = fake_engine(true, {.threads = 1, .prefill_chunk = 256, .chunk_beside = 64, .prefix_cache = false, .draft = 0},
                          {}, 16384, 200);
  auto running = fake.engine->submit(request(random_prompt(600, 1), 15000));
  ASSERT_TRUE(running.ok());
  Event event;
  ASSERT_TRUE(running.value()->next(event));  // answers from here on, until it is cancelled
  EXPECT_EQ(fake.model->most_alone, 256);
  const Request r = request(random_prompt(600, 2), 10);
  EXPECT_EQ(answer(*fake.engine, r).ids, expected_answer(r.prompt, 10, r.sampling, true));
  EXPECT_EQ(fake.model->most_beside, 64);
  running.value()->cancel();
  collect(**running);
}

TEST(Engine, CancelsWhatRunsAndWhatWaits) {
  Fake fake = fake_engine(true, {.threads = 1, .max_batch = 1}, {}, 512, 200);
  auto running = fake.engine->submit(request(random_prompt(10, 1), 400));
  auto waiting = fake.engine->submit(request(random_prompt(10, 2), 400));
  auto last = fake.engine->submit(request(random_prompt(10, 3), 4));
  ASSERT_TRUE(running.ok() && waiting.ok() && last.ok());
  Event event;
  ASSERT_TRUE(running.value()->next(event));
  EXPECT_TRUE(event.finish_reason.empty());
  EXPECT_EQ(waiting.value()->next_for(event, 0), 0);
  waiting.value()->cancel();
  EXPECT_EQ(collect(**waiting).finish_reason, "cancelled");
  running.value()->cancel();
  const Collected cut = collect(**running);
  EXPECT_EQ(cut.finish_reason, "cancelled");
  EXPECT_LT(cut.usage.completion_tokens, 400);
  EXPECT_GT(cut.usage.completion_tokens, 0);
  EXPECT_EQ(collect(**last).ids.size(), 4u);
  EXPECT_EQ(last.value()->next_for(event, 0), -1);
  EXPECT_FALSE(last.value()->next(event));
}

TEST(Engine, EndsCleanlyWithAnswersUnderWay) {
  std::vector<std::unique_ptr<Stream>> streams;
  {
    Fake fake = fake_engine(true, {.threads = 2, .max_batch = 2}, {}, 512, 100);
    for (uint64_t i = 0; i < 6; ++i) {
      auto stream = fake.engine->submit(request(random_prompt(50, i), 400));
      ASSERT_TRUE(stream.ok());
      streams.push_back(std::move(stream).value());
    }
  }
  for (auto& stream : streams) EXPECT_EQ(collect(*stream).finish_reason, "cancelled");
}

TEST(Engine, APromptThatDoesNotFitIsAnErrorWithBothNumbers) {
  Fake fake = fake_engine(true, {.context = 100});
  for (int64_t length : {100, 101, 5000}) {
    auto stream = fake.engine->submit(request(random_prompt(length, 1), 1));
    ASSERT_FALSE(stream.ok());
    EXPECT_EQ(stream.error().code, Code::kTooLarge);
    EXPECT_NE(stream.error().message().find("100"), std::string::npos);
    EXPECT_NE(stream.error().message().find(std::to_string(length)), std::string::npos);
  }
  const Request r = request(random_prompt(99, 1), -1);
  const Collected got = answer(*fake.engine, r);
  EXPECT_EQ(got.ids, expected_answer(r.prompt, 1, r.sampling, true));
  EXPECT_EQ(got.finish_reason, "length");
}

TEST(Engine, StopsAtTheEndOfTheContext) {
  // Exactly as many pages as one sequence of full length needs.
  Fake fake = fake_engine(true, {.context = 96, .kv_bytes = 3 * kFakePage});
  ASSERT_TRUE(fake.engine);
  std::vector<std::unique_ptr<Stream>> streams;
  for (uint64_t i = 0; i < 5; ++i) streams.push_back(fake.engine->submit(request(random_prompt(20, i), -1, i)).value());
  for (uint64_t i = 0; i < 5; ++i) {
    const Collected got = collect(*streams[i]);
    EXPECT_EQ(got.ids, expected_answer(random_prompt(20, i), 76, {.seed = i}, true));
    EXPECT_EQ(got.finish_reason, "length");
  }
}

TEST(Engine, ALogitThatIsNotFiniteIsAnErrorAndNeverAToken) {
  Fake fake = fake_engine(true, {.threads = 2});
  auto prompt = random_prompt(50, 1);
  prompt[20] = kPoison;
  auto good = fake.engine->submit(request(random_prompt(60, 2), 30));
  const Collected got = answer(*fake.engine, request(prompt, 10));
  EXPECT_EQ(got.finish_reason, "error");
  ASSERT_TRUE(got.error.has_value());
  EXPECT_NE(got.error->message().find("not finite"), std::string::npos);
  EXPECT_TRUE(got.ids.empty());
  EXPECT_EQ(collect(**good).ids, expected_answer(random_prompt(60, 2), 30, {.seed = 1}, true));
}

TEST(Engine, AFailedStepEndsItsRequestsAndNotTheEngine) {
  Fake fake = fake_engine(true, {.threads = 1});
  fake.model->fail = true;
  const Collected got = answer(*fake.engine, request(random_prompt(10, 1), 10));
  EXPECT_EQ(got.finish_reason, "error");
  EXPECT_EQ(answer(*fake.engine, request(random_prompt(10, 1), 10)).ids.size(), 10u);
}

TEST(Engine, ChecksRequests) {
  Fake fake = fake_engine(true, {});
  const auto refused = [&](Request r) {
    auto stream = fake.engine->submit(std::move(r));
    return stream.ok() ? std::string() : stream.error().message();
  };
  const Request good = request({1, 2}, 3);
  Request r = good;
  r.prompt = {};
  EXPECT_NE(refused(r).find("empty"), std::string::npos);
  r.prompt = {1, 61};
  EXPECT_NE(refused(r).find("61"), std::string::npos);
  r.prompt = {-1};
  EXPECT_NE(refused(r).find("-1"), std::string::npos);
  r = good, r.max_tokens = 0;
  EXPECT_NE(refused(r).find("max_tokens"), std::string::npos);
  r = good, r.logprobs = 21;
  EXPECT_NE(refused(r).find("logprobs"), std::string::npos);
  r = good, r.sampling.temperature = -1;
  EXPECT_NE(refused(r).find("temperature"), std::string::npos);
  r = good, r.sampling.logit_bias = {{61, 1.0}};
  EXPECT_NE(refused(r).find("logit_bias"), std::string::npos);
  r = good, r.stop = {""};
  EXPECT_NE(refused(r).find("stop"), std::string::npos);
  r = good, r.stop = {"x"};
  EXPECT_NE(refused(r).find("tokenizer"), std::string::npos);
  EXPECT_FALSE(fake.engine->submit_group(good, 0).ok());
  EXPECT_FALSE(fake_engine(true, {.max_batch = 0}).engine);
  EXPECT_FALSE(fake_engine(true, {.context = 513}).engine);
}

TEST(Engine, AShortPromptIsNotKeptByALongOne) {
  Fake fake = fake_engine(true, {.threads = 1, .prefill_chunk = 64, .prefix_cache = false}, {}, 8192, 300);
  auto longer = fake.engine->submit(request(random_prompt(8000, 1), 1));
  auto shorter = fake.engine->submit(request(random_prompt(40, 2), 1));
  ASSERT_TRUE(longer.ok() && shorter.ok());
  collect(**shorter);
  Event event;
  EXPECT_EQ(longer.value()->next_for(event, 0), 0) << "the long prompt was finished first";
}

TEST(Engine, DecodesWhileAPromptIsRead) {
  Fake fake = fake_engine(true, {.threads = 1, .prefill_chunk = 32, .prefix_cache = false}, {}, 8192, 300);
  auto talking = fake.engine->submit(request(random_prompt(10, 1), 50));
  Event event;
  ASSERT_TRUE(talking.value()->next(event));
  auto reading = fake.engine->submit(request(random_prompt(8000, 2), 1));
  EXPECT_EQ(collect(**talking).finish_reason, "length");
  EXPECT_EQ(reading.value()->next_for(event, 0), 0);
}

TEST(Engine, GivesAFreshSeedAndReportsIt) {
  Fake fake = fake_engine(true, {.threads = 1});
  Request r;
  r.prompt = random_prompt(10, 1);
  r.max_tokens = 30;
  const Collected a = answer(*fake.engine, r), b = answer(*fake.engine, r);
  EXPECT_NE(a.seed, b.seed);
  r.sampling.seed = a.seed;
  EXPECT_EQ(answer(*fake.engine, r).ids, a.ids);
}

TEST(Engine, PlansWhatIsLeftOpen) {
  Fake fake = fake_engine(true, {}, {}, 4096);
  EXPECT_EQ(fake.engine->options().context, 4096);
  EXPECT_EQ(fake.engine->options().threads, usable_processors());
  EXPECT_GE(fake.engine->options().kv_bytes, 4096 / kPageTokens * kFakePage);
}

}  // namespace
}  // namespace sonde::test
