// Drafts change when a token is computed, never which: on the model that shows every mistake of paging (fake_model.h).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/draft_costs.h"
#include "engine/fake_model.h"
#include "engine/lookup.h"

namespace sonde::test {
namespace {

Request request(std::vector<int32_t> prompt, int64_t count, uint64_t seed = 1, double temperature = 1) {
  Request r;
  r.prompt = std::move(prompt);
  r.max_tokens = count;
  r.sampling.seed = seed;
  r.sampling.temperature = temperature;
  r.loop_guard = false;
  return r;
}

Collected answer(Engine& engine, Request r) {
  auto stream = engine.submit(std::move(r));
  EXPECT_TRUE(stream.ok()) << (stream.ok() ? "" : stream.error().message());
  return stream.ok() ? collect(**stream) : Collected{};
}

void expect_same(const Collected& got, const Collected& want, const std::string& what) {
  EXPECT_EQ(got.ids, want.ids) << what;
  EXPECT_EQ(got.thought, want.thought) << what;
  EXPECT_EQ(got.text, want.text) << what;
  EXPECT_EQ(got.finish_reason, want.finish_reason) << what;
  EXPECT_EQ(got.usage.completion_tokens, want.usage.completion_tokens) << what;
  EXPECT_EQ(got.usage.reasoning_tokens, want.usage.reasoning_tokens) << what;
  ASSERT_EQ(got.logprobs.size(), want.logprobs.size()) << what;
  for (std::size_t i = 0; i < got.logprobs.size(); ++i) EXPECT_EQ(got.logprobs[i].logprob, want.logprobs[i].logprob);
  ASSERT_EQ(got.top.size(), want.top.size()) << what;
  for (std::size_t i = 0; i < got.top.size(); ++i) {
    ASSERT_EQ(got.top[i].size(), want.top[i].size());
    for (std::size_t j = 0; j < got.top[i].size(); ++j) EXPECT_EQ(got.top[i][j].id, want.top[i][j].id);
  }
}

constexpr FakeTraits kMtp{.mtp = true}, kEcho{.echo = 20}, kBoth{.mtp = true, .echo = 20};

TEST(Draft, AnswersAsPlainRecomputation) {
  for (bool latent : {false, true}) {
    for (bool mtp : {false, true}) {
      for (int draft : {1, 3, 15}) {
        Fake fake = fake_engine(latent, {.threads = 2, .prefill_chunk = 64, .prefix_cache = false, .draft = draft}, {},
                                512, 0, {.mtp = mtp});
        ASSERT_TRUE(fake.engine);
        int64_t accepted = 0;
        for (int64_t length : {1, 2, 31, 32, 33, 64, 65, 100, 300}) {
          for (double temperature : {0.0, 1.0}) {
            const Request r = request(random_prompt(length, 5), 70, 9, temperature);
            const Collected got = answer(*fake.engine, r);
            EXPECT_EQ(got.ids, expected_answer(r.prompt, 70, r.sampling, latent)) << draft << ", length " << length;
            EXPECT_EQ(got.finish_reason, "length");
            EXPECT_EQ(got.usage.completion_tokens, 70);
            EXPECT_LE(got.usage.accepted_tokens, got.usage.drafted_tokens);
            accepted += got.usage.accepted_tokens;
          }
        }
        EXPECT_FALSE(fake.model->misaligned);
        EXPECT_EQ(fake.model->stale, 0);
        const auto stats = when_idle(*fake.engine);
        EXPECT_GT(stats.drafted_tokens, 0);
        EXPECT_EQ(stats.accepted_tokens, accepted);
        if (mtp) { EXPECT_GT(accepted, 18 * 70 / 8); }
      }
    }
  }
}

TEST(Draft, AcceptedDraftsSaveSteps) {
  for (const FakeTraits traits : {kMtp, kEcho, kBoth}) {
    const Request r = request(random_prompt(50, 5), 300, 9, 0);
    Fake plain = fake_engine(true, {.threads = 1, .draft = 0}, {}, 512, 0, traits);
    const Collected want = answer(*plain.engine, r);
    Fake fake = fake_engine(true, {.threads = 1, .draft = 4}, {}, 512, 0, traits);
    const Collected got = answer(*fake.engine, r);
    expect_same(got, want, "drafts");
    EXPECT_GT(got.usage.accepted_tokens, 60);
    EXPECT_EQ(fake.model->steps, plain.model->steps - got.usage.accepted_tokens);
    EXPECT_EQ(fake.model->stale, 0);
  }
}

TEST(Draft, OffLeavesAllAsBefore) {
  Fake fake = fake_engine(true, {.threads = 1, .draft = 0}, {}, 512, 0, kBoth);
  const Collected got = answer(*fake.engine, request(random_prompt(50, 5), 100));
  EXPECT_EQ(got.usage.drafted_tokens, 0);
  EXPECT_EQ(fake.model->mtp_calls, 0);
  EXPECT_EQ(when_idle(*fake.engine).drafted_tokens, 0);
  EXPECT_EQ(fake.model->steps, 100);
}

// Steps take equally long here whatever they compute: drafting pays.
TEST(Draft, IsSwitchedOnWhereItPays) {
  const Request r = request(random_prompt(50, 5), 400, 9, 0);
  for (const FakeTraits traits : {kMtp, kEcho}) {
    Fake fake = fake_engine(true, {.threads = 1}, {}, 512, 1000, traits);
    EXPECT_GT(answer(*fake.engine, r).usage.accepted_tokens, 0);
  }
}

// A layer that takes a hundred steps' time pauses before it has taken many, and its records are not written either.
TEST(Draft, IsSwitchedOffWhereItDoesNotPay) {
  const Request r = request(random_prompt(50, 5), 400, 9, 0);
  Fake plain = fake_engine(true, {.threads = 1, .draft = 0}, {}, 512, 0, kMtp);
  Fake fake = fake_engine(true, {.threads = 1}, {}, 512, 200, {.mtp = true, .mtp_microseconds = 20000});
  expect_same(answer(*fake.engine, r), answer(*plain.engine, r), "first");
  const int64_t calls = fake.model->mtp_calls;
  EXPECT_LT(calls, 30);
  expect_same(answer(*fake.engine, r), answer(*plain.engine, r), "in the pause");
  EXPECT_EQ(fake.model->mtp_calls, calls);
}

TEST(Draft, NeighboursAndLostPagesChangeNothing) {
  for (const FakeTraits traits : {FakeTraits{}, kMtp, kEcho, kBoth}) {
    for (bool cache : {false, true}) {
      const auto run = [&](int draft, int64_t pages) {
        Fake fake = fake_engine(true,
                                {.threads = 1,
                                 .context = 256,
                                 .max_batch = 8,
                                 .prefill_chunk = 64,
                                 .kv_bytes = pages * kFakePage / 2 * (traits.mtp ? 3 : 2),
                                 .prefix_cache = cache,
                                 .draft = draft},
                                {}, 512, 0, traits);
        std::vector<std::unique_ptr<Stream>> streams;
        for (uint64_t i = 0; i < 16; ++i) {
          auto prompt = random_prompt(static_cast<int64_t>(1 + mix(i, 1) % 100), i);
          prompt.push_back(kPoison - 1);
          streams.push_back(
              fake.engine->submit(request(prompt, 20 + static_cast<int64_t>(mix(i, 2) % 100), i, i % 3 * 0.5)).value());
        }
        std::vector<std::vector<int32_t>> out;
        for (auto& stream : streams) out.push_back(collect(*stream).ids);
        const auto stats = when_idle(*fake.engine);
        EXPECT_EQ(stats.pages_used, 0);
        EXPECT_FALSE(fake.model->misaligned);
        if (!cache) { EXPECT_EQ(fake.model->stale, 0); }
        if (pages < 20) { EXPECT_GT(stats.preemptions, 0); }
        if (draft > 0) { EXPECT_GT(stats.drafted_tokens, 0); }
        return out;
      };
      const auto want = run(0, 200);
      for (int draft : {2, 7, -1}) {
        EXPECT_EQ(run(draft, 200), want) << draft;
        EXPECT_EQ(run(draft, 8), want) << draft;
      }
    }
  }
}

TEST(Draft, AGroupSharesItsPrompt) {
  for (const FakeTraits traits : {kMtp, kEcho}) {
    for (int64_t length : {31, 32, 40, 64}) {
      const Request r = request(random_prompt(length, 3), 50, 77, 0.5);
      const auto run = [&](int draft) {
        Fake fake =
            fake_engine(true, {.threads = 2, .context = 128, .max_batch = 4, .draft = draft}, {}, 512, 0, traits);
        std::vector<std::vector<int32_t>> out;
        auto streams = fake.engine->submit_group(r, 6);
        for (auto& stream : streams.value()) out.push_back(collect(*stream).ids);
        return out;
      };
      EXPECT_EQ(run(3), run(0)) << length;
    }
  }
}

TEST(Draft, EndsWhereAnAnswerEnds) {
  // At every length: within a run of accepted drafts, too.
  Request r = request(random_prompt(40, 5), 60, 9, 0);
  Fake plain = fake_engine(true, {.threads = 1, .draft = 0}, {}, 512, 0, kEcho);
  Fake fake = fake_engine(true, {.threads = 1, .draft = 8}, {}, 512, 0, kEcho);
  for (r.max_tokens = 1; r.max_tokens <= 60; ++r.max_tokens) {
    const Collected got = answer(*fake.engine, r);
    expect_same(got, answer(*plain.engine, r), "max_tokens");
    EXPECT_EQ(got.usage.completion_tokens, r.max_tokens);
  }
  // At the end of the context, in a pool that holds not one page more.
  for (int draft : {0, 5, 15}) {
    Fake full = fake_engine(true, {.context = 96, .kv_bytes = 3 * kFakePage, .draft = draft}, {}, 512, 0, kEcho);
    r.max_tokens = -1;
    const Collected got = answer(*full.engine, r);
    EXPECT_EQ(got.ids.size(), 56u);
    EXPECT_EQ(got.finish_reason, "length");
    expect_same(got, answer(*fake_engine(true, {.context = 96, .draft = 0}, {}, 512, 0, kEcho).engine, r), "context");
  }
}

TEST(Draft, EverySettingOfARequestApplies) {
  const auto engine = [](int draft, FakeTraits traits) {
    EngineParts parts;
    parts.tokenizer = std::make_unique<FakeTokenizer>();
    parts.end_tokens = {40};
    return fake_engine(true, {.threads = 1, .draft = draft}, std::move(parts), 1024, 0, traits);
  };
  int64_t accepted = 0;
  for (const FakeTraits traits : {kMtp, kBoth}) {
    Fake plain = engine(0, traits), fake = engine(6, traits);
    const auto compare = [&](const Request& r, const std::string& what) {
      const Collected got = answer(*fake.engine, r);
      expect_same(got, answer(*plain.engine, r), what);
      accepted += got.usage.accepted_tokens;
      return got;
    };
    std::vector<int32_t> prompt;
    for (int32_t i = 0; i < 60; ++i) prompt.push_back(i % 20);
    for (uint64_t seed = 0; seed < 8; ++seed) {
      const Request base = request(prompt, 200, seed, 0.8);
      compare(base, "plain");
      Request r = base;
      r.logprobs = 5;
      EXPECT_EQ(compare(r, "logprobs").logprobs.size(), compare(r, "logprobs").ids.size());
      r = base;
      r.sampling.top_p = 0.7, r.sampling.top_k = 5, r.sampling.min_p = 0.05;
      compare(r, "top-p, top-k, min-p");
      r = base;
      r.sampling.repetition_penalty = 1.3, r.sampling.presence_penalty = 0.5, r.sampling.frequency_penalty = 0.2;
      r.sampling.logit_bias = {{3, 4.0}, {7, -20.0}};
      compare(r, "penalties");
      r = base;
      r.think = {.tokens = 30, .closing = "abcdefgh"}, r.thinking = true, r.ignore_eos = true;
      EXPECT_GT(compare(r, "budget").usage.reasoning_tokens, 30);
      r = base;
      r.ignore_eos = true, r.loop_guard = true, r.max_tokens = 900, r.sampling.temperature = 0;
      compare(r, "loop guard");
      // A stop text in the midst of what the answer says without it.
      const std::string text = answer(*plain.engine, base).text;
      for (std::size_t at = 0; at + 3 < text.size() && at < 40; at += 3) {
        r = base;
        r.stop = {text.substr(at, 2)};
        compare(r, "stop \"" + r.stop[0] + "\"");
      }
    }
  }
  EXPECT_GT(accepted, 500);
}

// Pages are known by what was accepted: a second turn finds them and goes on as if all had been computed anew.
TEST(Draft, PagesOfAnAnswerAreFoundAgain) {
  for (const FakeTraits traits : {kMtp, kEcho, kBoth}) {
    Fake plain =
        fake_engine(true, {.threads = 1, .prefix_cache = false, .reproducible = true, .draft = 0}, {}, 512, 0, traits);
    Fake fake = fake_engine(true, {.threads = 1, .reproducible = true, .draft = 7}, {}, 512, 0, traits);
    Request r = request(random_prompt(40, 3), 70, 5, 0.5);
    for (int turn = 0; turn < 5; ++turn) {
      const Collected got = answer(*fake.engine, r);
      expect_same(got, answer(*plain.engine, r), "turn");
      // The last token was chosen but never computed.
      EXPECT_EQ(got.usage.cached_tokens, turn == 0 ? 0 : (static_cast<int64_t>(r.prompt.size()) - 2) / 32 * 32);
      r.prompt.insert(r.prompt.end(), got.ids.begin(), got.ids.end());
      r.prompt.push_back(turn);
    }
  }
}

TEST(Draft, ALogitThatIsNotFiniteBehindAWrongDraftIsNobodysError) {
  // The prompt teaches that kPoison follows 1 2 3; drafted after the same again, it spoils only rows that are dropped.
  Fake fake = fake_engine(true, {.threads = 1, .draft = 4});
  EXPECT_EQ(answer(*fake.engine, request({1, 2, 3, kPoison, 1, 2, 3}, 5)).finish_reason, "error");
  EXPECT_EQ(answer(*fake.engine, request({1, 2, 3, 1, 2, 3}, 5)).finish_reason, "length");
}

TEST(Draft, ChecksTheOption) {
  EXPECT_FALSE(fake_engine(true, {.draft = -2}).engine);
  EXPECT_FALSE(fake_engine(true, {.draft = 16}).engine);
  EXPECT_TRUE(fake_engine(true, {.draft = 15}).engine);
}

TEST(Lookup, FindsTheLongestAndLatestAgreement) {
  const auto find = [](const std::vector<int32_t>& text, int64_t most) {
    Match match{3, {1, 2, 3, 4}};  // of an earlier text
    look_up(text, most, match);
    return match;
  };
  const std::vector<int32_t> text = {1, 2, 3, 4, 9, 2, 3, 5, 8, 3, 6, 2, 3};
  Match m = find(text, 3);
  EXPECT_EQ(m.length, 2);
  EXPECT_EQ(m.next, (std::vector<int32_t>{5, 8, 3}));
  m = find(std::vector<int32_t>{7, 1, 2, 3}, 3);
  EXPECT_EQ(m.length, 0);
  EXPECT_TRUE(m.next.empty());
  EXPECT_EQ(find({}, 3).length, 0);
  EXPECT_EQ(find(std::vector<int32_t>{1, 1}, 0).length, 0);
  m = find(std::vector<int32_t>{5, 1, 2, 1, 2}, 5);  // goes on as the text would
  EXPECT_EQ(m.length, 2);
  EXPECT_EQ(m.next, (std::vector<int32_t>{1, 2, 1, 2, 1}));
  m = find(std::vector<int32_t>(100, 4), 2);
  EXPECT_EQ(m.length, kLongestMatch);
  EXPECT_EQ(m.next, (std::vector<int32_t>{4, 4}));
}

StepTimes times(double first, double each) {
  StepTimes t;
  for (int round = 0; round < 3; ++round)
    for (int64_t rows : {1, 2, 3, 4, 6, 8, 12, 16}) t.add(rows, first + each * static_cast<double>(rows));
  return t;
}

std::vector<int64_t> best_drafts(const StepTimes& times, int64_t answers, const std::vector<DraftOffer>& offers) {
  DraftChoice choice;
  const auto best = choice.best(times, answers, offers);
  return {best.begin(), best.end()};
}

TEST(DraftCosts, DraftWhatPays) {
  const DraftOffer sure{.gains = std::vector<double>(kMostDrafts, 0.99)};
  const DraftOffer doubtful{.gains = {0.5, 0.25, 0.125, 0.06, 0.03}};
  EXPECT_EQ(best_drafts(times(1, 0), 1, std::vector{sure}), std::vector<int64_t>{15});
  EXPECT_EQ(best_drafts(times(0, 1), 1, std::vector{sure}), std::vector<int64_t>{0});
  // 1 second and a tenth for each row: (1 + 0.5) / 1.2, (1 + 0.75) / 1.3, (1 + 0.875) / 1.4, ...
  EXPECT_EQ(best_drafts(times(1, 0.1), 1, std::vector{doubtful}), std::vector<int64_t>{2});
  DraftOffer dear = doubtful;
  dear.seconds = 0.5;  // 1.5 / 1.7 of a token a second, where 1 / 1.1 is had without
  EXPECT_EQ(best_drafts(times(1, 0.1), 1, std::vector{dear}), std::vector<int64_t>{0});
  // Of two answers the surer one gets more.
  const auto both = best_drafts(times(1, 0.1), 2, std::vector{doubtful, sure});
  EXPECT_GT(both[1], both[0]);
  EXPECT_EQ(best_drafts(times(1, 0.1), 2, std::vector{doubtful, DraftOffer{}})[1], 0);
}

TEST(DraftCosts, ChancesFollowWhatHappened) {
  Acceptance a(8);
  const double before = a.chance(DraftSource::kMatch3, 0);
  for (int i = 0; i < 40; ++i) a.step(), a.add(DraftSource::kMatch3, 4, 1);
  EXPECT_GT(a.chance(DraftSource::kMatch3, 0), 0.98);
  EXPECT_LT(a.chance(DraftSource::kMatch3, 1), 0.02);
  EXPECT_GT(a.chance(DraftSource::kMatch3, 2), 0.5);  // never came to be judged
  for (int i = 0; i < 40; ++i) a.step(), a.add(DraftSource::kMatch3, 4, 0);
  EXPECT_LT(a.chance(DraftSource::kMatch3, 0), 0.02);
  EXPECT_LT(a.chance(DraftSource::kMatch3, 0), before);
  EXPECT_EQ(a.chance(DraftSource::kMtp, 0),
            Acceptance(8).chance(DraftSource::kMtp, 0) + 0.2 * (1 - std::exp2(-80 / 1024.0)));
  for (int i = 0; i < 2048; ++i) a.step();
  EXPECT_GT(a.chance(DraftSource::kMatch3, 0), 0.7);  // forgotten, and worth a try
}

TEST(DraftCosts, WhatLosesPausesAndLongerEachTime) {
  DraftAccount account(6, 512, 2048);
  int64_t pause = 0;
  for (int64_t wanted : {512, 1024, 2048, 2048}) {
    for (int i = 0; i < 6; ++i) account.step(), account.add(0.5, 1.5), account.judge(1);
    EXPECT_TRUE(account.open()) << "as much as it may lose";
    const int64_t trial = account.trial();
    account.step(), account.add(0, 0.1), account.judge(1);
    EXPECT_EQ(account.trial(), trial + 1);
    for (pause = 0; !account.open() && pause < 5000; ++pause) account.add(0, 1), account.judge(1), account.step();
    EXPECT_EQ(pause, wanted);
  }
  account = DraftAccount(6, 512, 2048);
  for (int i = 0; i < 5; ++i) account.add(0, 1), account.judge(1);
  account.add(30, 0), account.judge(1);  // won: begins anew
  for (int i = 0; i < 6; ++i) account.add(0, 1), account.judge(1);
  EXPECT_TRUE(account.open());
  account.add(0, 0.1), account.judge(1);
  EXPECT_FALSE(account.open());
}

TEST(DraftCosts, TimesAreMeasuredAndBetweenThemALine) {
  StepTimes t;
  EXPECT_EQ(t.expect(1), 0);
  t.add(1, 50);  // cold caches
  t.add(1, 1);
  EXPECT_FALSE(t.fresh(1));
  EXPECT_EQ(t.expect(1), 0);
  t.add(1, 1.2);
  EXPECT_EQ(t.expect(1), 1);
  EXPECT_GT(t.expect(2), 1);  // a guess
  for (int i = 0; i < 3; ++i) t.add(4, 4);
  EXPECT_NEAR(t.expect(3), 3, 0.05);
  EXPECT_NEAR(t.expect(8), 8, 0.1);
  t.add(4, 1000);
  EXPECT_LT(t.expect(4), 4.3);  // a burst
  for (int i = 0; i < 100; ++i) t.add(4, 8);
  EXPECT_NEAR(t.expect(4), 8, 0.1);
  t.add(1000, 1);  // too many rows to care
  EXPECT_GT(t.expect(64), 50);
  for (int i = 0; i < 5; ++i) {
    EXPECT_FALSE(t.fresh(1));
    t.add(1, 1);
  }
  EXPECT_TRUE(t.fresh(1));
  for (int i = 0; i < 50; ++i) t.add(2, 1);
  EXPECT_FALSE(t.fresh(1));
}

// Of 64 experts 6: so many times those of one row are read by rows that choose as `part` of a stranger each would.
double union_of(double part, int64_t rows) {
  return 64.0 / 6 * (1 - std::pow(58.0 / 64, 1 + part * static_cast<double>(rows - 1)));
}

TEST(DraftCosts, TheUnionOfExpertsFollowsWhatStepsHaveRead) {
  const ExpertUnion dense, all(8, 8, 0.9);
  for (int64_t rows : {1, 2, 16}) {
    EXPECT_EQ(dense.times(rows), 1);
    EXPECT_EQ(all.times(rows), 1);
  }
  EXPECT_EQ(all.share(), 0) << "every row reads all of them";
  ExpertUnion u(64, 6, 0.5);
  EXPECT_NEAR(u.times(1), 1, 1e-12);
  EXPECT_NEAR(u.times(2), 2 - 6 / 64.0, 1e-12) << "strangers, before anything was measured";
  u.add(1, 1);  // one row tells nothing
  EXPECT_NEAR(u.times(8), union_of(1, 8), 1e-12);
  for (int i = 0; i < 300; ++i) u.add(4, union_of(0.4, 4));
  for (int64_t rows : {1, 2, 4, 8, 16}) EXPECT_NEAR(u.times(rows), union_of(0.4, rows), 1e-3) << rows;
  for (int i = 0; i < 300; ++i) u.add(4, 1);  // all chose the same
  EXPECT_NEAR(u.times(16), 1, 1e-2);
  for (int i = 0; i < 300; ++i) u.add(64, 64.0 / 6);  // none was left out
  EXPECT_NEAR(u.times(2), 2 - 6 / 64.0, 1e-3);
}

TEST(DraftCosts, ARowMoreOfAMixtureCostsTheExpertsThatItAdds) {
  StepTimes dense, t(ExpertUnion(64, 6, 0.5));
  for (StepTimes* times : {&dense, &t})
    for (int i = 0; i < 3; ++i) times->add(1, 1);
  EXPECT_NEAR(dense.expect(2), 1.2, 0.01);
  EXPECT_NEAR(t.expect(2), 1 + 0.5 * 0.2 + 0.5 * (1 - 6 / 64.0), 0.01);
  EXPECT_NEAR(t.expect(8), 1 + 0.5 * 0.2 * 7 + 0.5 * (union_of(1, 8) - 1), 0.01);
  // Two numbers settled: between them the union's curve, which a straight line would be below.
  StepTimes both(ExpertUnion(64, 6, 0.9));
  for (int64_t rows : {1, 12})
    for (int i = 0; i < 3; ++i) both.add(rows, rows == 1 ? 1 : 6);
  EXPECT_GT(both.expect(6), 1 + 5 * 5 / 11.0 + 0.3);
  // Drafts that would pay in a dense model do not where each reads experts of its own, until they are seen to share.
  const DraftOffer doubtful{.gains = {0.5, 0.25}};
  EXPECT_EQ(best_drafts(dense, 1, std::vector{doubtful}), std::vector<int64_t>{1});
  EXPECT_EQ(best_drafts(t, 1, std::vector{doubtful}), std::vector<int64_t>{0});
  for (int i = 0; i < 300; ++i) t.read(3, union_of(0.2, 3));  // 1.5 / 1.19, 1.75 / 1.37
  EXPECT_EQ(best_drafts(t, 1, std::vector{doubtful}), std::vector<int64_t>{2});
}

}  // namespace
}  // namespace sonde::test
