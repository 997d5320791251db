// The equalities, on real checkpoints and either path: whatever the batch, the chunks, the threads, the pages, an
// answer's raw logits are the same bits; across the two forms of latent attention those of the exact path agree within
// 2e-4 of the logits' spread.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <tuple>

#include "engine/fake_model.h"
#include "engine/kv_pages.h"
#include "engine/watched_model.h"
#include "files/safetensors.h"
#include "support/assets.h"

namespace sonde::test {
namespace {

using Rows = std::vector<std::vector<float>>;

struct Outcome {
  std::map<uint64_t, Rows> logits;  // by seed: the raw logits of each token of the answer
  std::map<uint64_t, Collected> answers;
  Engine::Stats stats;
};

// A checkpoint, and whether to compute exactly.
class Real : public testing::TestWithParam<std::tuple<std::string, bool>> {
 protected:
  void SetUp() override {
    path_ = name() == "mini" ? source("models/mini") : find_golden(name());
    if (path_.empty()) GTEST_SKIP() << name() << " is not at hand";
  }
  static const std::string& name() { return std::get<0>(GetParam()); }
  static bool exact() { return std::get<1>(GetParam()); }

  std::shared_ptr<const Checkpoint> checkpoint() const {
    auto opened = Checkpoint::open(path_);
    if (!opened.ok()) throw std::runtime_error(opened.error().message());
    return std::move(opened).value();
  }
  static std::unique_ptr<Model> load(std::shared_ptr<const Checkpoint> from) {
    auto model = Model::load(std::move(from), {.exact = exact()});
    if (!model.ok()) throw std::runtime_error(model.error().message());
    return std::move(model).value();
  }

  // The requests, in `rounds`: each round is submitted at once and finished before the next.
  Outcome run(EngineOptions options, const std::vector<std::vector<Request>>& rounds, int samples = 1) {
    Outcome out;
    auto engine = start(options, out);
    for (const auto& round : rounds) {
      std::vector<std::vector<std::unique_ptr<Stream>>> streams;
      for (const Request& r : round) {
        auto group = engine->submit_group(r, samples);
        if (!group.ok()) throw std::runtime_error(group.error().message());
        streams.push_back(std::move(group).value());
      }
      for (std::size_t i = 0; i < round.size(); ++i) {
        for (auto& stream : streams[i]) out.answers[*round[i].sampling.seed] = collect(*stream);
      }
    }
    out.stats = when_idle(*engine);
    engine.reset();  // the loop's thread is gone: `out` is ours
    return out;
  }

  // Its raw logits go to `out`, which outlives it.
  std::unique_ptr<Engine> start(EngineOptions options, Outcome& out) {
    EngineParts parts;
    parts.checkpoint = checkpoint();
    auto watched = std::make_unique<WatchedModel>(load(parts.checkpoint));
    watched_ = watched.get();
    parts.model = std::move(watched);
    parts.watch_logits = [&out](const Request& r, int64_t index, std::span<const float> logits) {
      Rows& rows = out.logits[*r.sampling.seed];
      if (static_cast<int64_t>(rows.size()) <= index) rows.resize(static_cast<std::size_t>(index) + 1);
      rows[static_cast<std::size_t>(index)].assign(logits.begin(), logits.end());
    };
    if (options.kv_bytes == 0) options.kv_bytes = int64_t{64} << 20;
    if (options.context == 0) options.context = 256;
    auto engine = make_engine(std::move(parts), options);
    if (!engine.ok()) throw std::runtime_error(engine.error().message());
    return std::move(engine).value();
  }

  // Greedy answers to prompts of several lengths, with beginnings of their own.
  std::vector<Request> requests(int count, int64_t tokens = 12) const {
    std::vector<Request> out;
    const int64_t lengths[] = {100, 33, 150, 64, 1, 97, 31, 128};
    for (int i = 0; i < count; ++i) out.push_back(request(lengths[i % 8], static_cast<uint64_t>(i), tokens));
    return out;
  }
  Request request(int64_t length, uint64_t seed, int64_t tokens = 12) const {
    Request r;
    r.max_tokens = tokens;
    r.ignore_eos = true;
    for (int64_t i = 0; i < length; ++i)
      r.prompt.push_back(static_cast<int32_t>(mix(seed, static_cast<uint64_t>(i)) % kIds));
    r.sampling.temperature = 0;
    r.sampling.seed = seed;
    return r;
  }

  static constexpr uint64_t kIds = 150;  // below every vocabulary here
  std::string path_;
  WatchedModel* watched_ = nullptr;  // of the engine that start() made last
};

void expect_same_bits(const Rows& a, const Rows& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(a[i].size(), b[i].size()) << what;
    EXPECT_EQ(std::memcmp(a[i].data(), b[i].data(), a[i].size() * sizeof(float)), 0) << what << ", token " << i;
  }
}

void expect_same_bits(const Outcome& a, const Outcome& b, const std::string& what) {
  ASSERT_EQ(a.logits.size(), b.logits.size()) << what;
  for (const auto& [seed, rows] : a.logits) {
    expect_same_bits(rows, b.logits.at(seed), what + ", request " + std::to_string(seed));
    EXPECT_EQ(a.answers.at(seed).ids, b.answers.at(seed).ids) << what;
  }
}

// Largest difference over the standard deviation of `a`.
double difference(const Rows& a, const Rows& b) {
  double sum = 0, squares = 0, largest = 0, n = 0;
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) {
    for (std::size_t j = 0; j < a[i].size(); ++j) {
      sum += a[i][j], squares += double(a[i][j]) * a[i][j], n += 1;
      largest = std::max(largest, std::abs(double(a[i][j]) - b[i][j]));
    }
  }
  return largest / std::sqrt(squares / n - sum / n * sum / n);
}

TEST_P(Real, ChunksBatchesThreadsPagesAndHitsAreTheSameBits) {
  for (bool reproducible : {false, true}) {
    std::vector<Request> all = requests(8);
    all[1].sampling.temperature = 0.7;
    std::vector<std::vector<Request>> alone;
    for (const Request& r : all) alone.push_back({r});
    const EngineOptions one_shot{
        .threads = 1, .max_batch = 1, .prefill_chunk = 512, .prefix_cache = false, .reproducible = reproducible};
    const Outcome base = run(one_shot, alone);

    EngineOptions o = one_shot;
    o.prefill_chunk = 32;
    expect_same_bits(base, run(o, alone), "chunks of 32");
    o.prefill_chunk = 64;
    expect_same_bits(base, run(o, alone), "chunks of 64");
    o = one_shot, o.max_batch = 8;
    expect_same_bits(base, run(o, {all}), "batch of 8");
    o = one_shot, o.threads = 2;
    expect_same_bits(base, run(o, alone), "2 threads");
    o = one_shot, o.threads = 2, o.max_batch = 8, o.prefill_chunk = 32;
    expect_same_bits(base, run(o, {all}), "2 threads, batch of 8, chunks of 32");

    o.prefix_cache = true;
    const Outcome hits = run(o, {all, all});
    EXPECT_GT(hits.stats.prefix_hit_tokens, 0);
    EXPECT_EQ(hits.answers.at(2).usage.cached_tokens, 128);
    expect_same_bits(base, hits, "prefix hits");
  }
}

TEST_P(Real, LosingPagesIsTheSameBits) {
  // Short prompts are admitted together; their answers outgrow eight pages.
  std::vector<Request> all;
  for (uint64_t i = 0; i < 6; ++i) all.push_back(request(static_cast<int64_t>(5 + 11 * i), i, 100));
  const Outcome base = run({.threads = 2, .context = 192, .prefix_cache = false}, {all});
  EXPECT_EQ(base.stats.preemptions, 0);
  const int64_t kv = 8 * page_bytes(load(checkpoint())->kv_layout());
  for (bool cache : {false, true}) {
    const Outcome tight = run({.threads = 2, .context = 192, .kv_bytes = kv, .prefix_cache = cache}, {all});
    EXPECT_GT(tight.stats.preemptions, 0);
    expect_same_bits(base, tight, "eight pages");
  }
}

TEST_P(Real, AnswersOfAGroupAreTheSameBits) {
  // Greedy answers of one group write the same tokens into their own copies of the prompt's last page.
  const std::vector<Request> one = {request(70, 4, 40)};
  const Outcome base = run({.threads = 1}, {one});
  for (int samples : {2, 5}) expect_same_bits(base, run({.threads = 2, .max_batch = 3}, {one}, samples), "group");
}

TEST_P(Real, ReproducibleIsTheSameBitsOnPagesThatAnAnswerWrote) {
  const Request first = request(50, 1, 60);
  Request second = request(50, 2);
  const auto told = run({.threads = 1, .reproducible = true}, {{first}}).answers.at(1).ids;
  second.prompt = first.prompt;
  second.prompt.insert(second.prompt.end(), told.begin(), told.end());
  second.prompt.push_back(3);
  const Outcome hit = run({.threads = 1, .reproducible = true}, {{first}, {second}});
  EXPECT_EQ(hit.answers.at(2).usage.cached_tokens, 96);
  const Outcome miss = run({.threads = 1, .prefix_cache = false, .reproducible = true}, {{second}});
  expect_same_bits(miss.logits.at(2), hit.logits.at(2), "pages of an answer");
  if (!exact()) return;  // the fast path's forms round other values: the first answer may be another
  // In two forms: within 2e-4 of the spread, where the two answers read the same tokens.
  const Outcome two_forms = run({.threads = 1}, {{first}, {second}});
  EXPECT_EQ(two_forms.answers.at(2).usage.cached_tokens, 96);
  const Outcome plain = run({.threads = 1, .prefix_cache = false}, {{second}});
  EXPECT_LE(difference({plain.logits.at(2)[0]}, {two_forms.logits.at(2)[0]}), 2e-4);
}

// Token by token, straight from the model: what an engine must agree with that does nothing clever at all.
TEST_P(Real, TokenByTokenAgrees) {
  for (const Request& r : {request(75, 6), request(33, 7)}) {
    const Outcome one_form = run({.threads = 2, .prefill_chunk = 64, .reproducible = true}, {{r}});
    const uint64_t seed = *r.sampling.seed;

    const auto model = load(checkpoint());
    auto pool = PagePool::create(model->kv_layout(), 8);
    ASSERT_TRUE(pool.ok());
    std::vector<std::byte*> pages;
    for (int i = 0; i < 8; ++i) pages.push_back((*pool)->data((*pool)->take()));
    ThreadPool threads(1);
    std::vector<int32_t> tokens = r.prompt;
    Rows rows;
    ForwardResult result;
    for (int64_t at = 0; static_cast<int64_t>(rows.size()) < r.max_tokens; ++at) {
      const SequenceChunk chunk{.tokens = std::span(tokens).subspan(static_cast<std::size_t>(at), 1),
                                .start = at,
                                .pages = pages,
                                .absorbed = true};
      model->forward(threads, std::span(&chunk, 1), result);
      if (at + 1 < static_cast<int64_t>(tokens.size())) continue;
      rows.emplace_back(result.logits.begin(), result.logits.end());
      tokens.push_back(argmax(rows.back()));
    }
    expect_same_bits(rows, one_form.logits.at(seed), "reproducible");
    if (!exact()) continue;
    const Outcome two_forms = run({.threads = 2, .prefill_chunk = 64}, {{r}});
    EXPECT_LE(difference(rows, two_forms.logits.at(seed)), 2e-4);
    EXPECT_EQ(one_form.answers.at(seed).ids, two_forms.answers.at(seed).ids);
  }
}

// Drafted tokens are rows of one step; their logits are the bits that one row at a time has.
TEST_P(Real, DraftsAreTheSameBits) {
  std::vector<Request> all;
  for (uint64_t i = 0; i < 4; ++i) {
    Request r = request(static_cast<int64_t>(20 + 30 * i), i, 40);
    const auto once = r.prompt;
    r.prompt.insert(r.prompt.end(), once.begin(), once.end());  // says everything twice
    if (i % 2 == 1) r.sampling.temperature = 0.7, r.sampling.top_p = 0.9, r.sampling.frequency_penalty = 0.1;
    all.push_back(std::move(r));
  }
  const std::vector<std::vector<Request>> alone = {{all[0]}, {all[1]}, {all[2]}, {all[3]}};
  for (bool reproducible : {false, true}) {
    const EngineOptions plain{
        .threads = 1, .max_batch = 1, .prefix_cache = false, .reproducible = reproducible, .draft = 0};
    const Outcome base = run(plain, alone);
    EXPECT_EQ(base.stats.drafted_tokens, 0);
    for (int draft : {3, -1}) {
      EngineOptions o = plain;
      o.draft = draft;
      const Outcome single = run(o, alone);
      expect_same_bits(base, single, "one at a time");
      if (draft > 0) { EXPECT_GT(single.stats.drafted_tokens, 0); }
      o.threads = 2, o.max_batch = 8, o.prefix_cache = true;
      const Outcome twice = run(o, {all, all});
      EXPECT_GT(twice.stats.prefix_hit_tokens, 0);
      expect_same_bits(base, twice, "together, twice");
    }
  }
}

// A prompt given up between any two layers leaves no trace: not in what reads beside it, nor when it is sent again.
TEST_P(Real, PromptsGivenUpWithinAStepLeaveNoTrace) {
  const Request r = request(140, 9), other = request(100, 1);
  const EngineOptions options{.threads = 2, .prefill_chunk = 64};
  const Outcome base = run(options, {{other}, {r}});
  for (int64_t layer = 0, layers = 1; layer < layers; ++layer) {
    for (const bool beside : {false, true}) {
      Outcome out;
      auto engine = start(options, out);
      layers = engine->model().config().num_hidden_layers;
      std::mutex mutex;  // the hook waits until both are there
      std::vector<std::unique_ptr<Stream>> streams;
      watched_->at_layer = [&](int64_t step, int64_t at) {
        const std::lock_guard lock(mutex);
        if (step == 1 && at == layer) streams[0]->cancel();
      };
      {
        const std::lock_guard lock(mutex);
        streams.push_back(engine->submit(r).value());
        if (beside) streams.push_back(engine->submit(other).value());
      }
      EXPECT_EQ(collect(*streams[0]).finish_reason, "cancelled");
      if (beside) out.answers[1] = collect(*streams[1]);
      if (!beside) out.answers[1] = collect(*engine->submit(other).value());
      EXPECT_EQ(watched_->given_up, beside ? 0 : 1);
      out.answers[9] = collect(*engine->submit(r).value());
      if (!beside) { EXPECT_EQ(out.answers[9].usage.cached_tokens, 64); }
      EXPECT_EQ(when_idle(*engine).pages_used, 0);
      engine.reset();
      expect_same_bits(base, out, "given up before layer " + std::to_string(layer));
    }
  }
}

// An answer that says one token over and over: what follows it is found in the text, and right.
TEST_P(Real, DraftsOfALoopAreAccepted) {
  Request r = request(1, 0, 100);
  const EngineOptions plain{.threads = 1, .prefix_cache = false, .draft = 0};
  r.sampling.logit_bias = {{7, 1000.0}};
  const Outcome base = run(plain, {{r}});
  EngineOptions o = plain;
  o.draft = 4;
  const Outcome drafted = run(o, {{r}});
  expect_same_bits(base, drafted, "a loop");
  EXPECT_GT(drafted.stats.accepted_tokens, 60);
  EXPECT_EQ(base.stats.steps - drafted.stats.steps, drafted.stats.accepted_tokens);
}

// The goldens' greedy continuations, all prompts at once.
class Recorded : public Real {};

TEST_P(Recorded, GreedyAnswers) {
  std::string file = path_ + "/expected.safetensors";
  if (path_.ends_with(".gguf")) file = path_.substr(0, path_.size() - 5) + ".expected.safetensors";
  auto opened = open_safetensors(file);
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  const auto ids = [&](const std::string& name) {
    const Tensor* t = opened->find(name);
    std::vector<int32_t> out(t ? static_cast<std::size_t>(t->count()) : 0);
    if (t) std::memcpy(out.data(), t->bytes.data(), out.size() * sizeof(int32_t));
    return out;
  };
  // qwen3's recorded continuations ignore attn_factor; its logits with the factor tell the first token of each.
  const bool first_only = opened->find("0.logits_attn_factor") != nullptr;
  const auto recorded = [&](uint64_t p) {
    if (!first_only) return ids(std::to_string(p) + ".greedy");
    const Tensor* t = opened->find(std::to_string(p) + ".logits_attn_factor");
    std::vector<float> rows(static_cast<std::size_t>(t->count()));
    t->type->unpack(t->bytes.data(), t->count() / t->type->block, rows.data());
    const auto last = std::span<const float>(rows).last(static_cast<std::size_t>(t->dim(1)));
    return std::vector<int32_t>{argmax(last)};
  };
  std::vector<Request> all;
  for (uint64_t p = 0; !ids(std::to_string(p) + ".greedy").empty(); ++p) {
    Request r;
    r.prompt = ids(std::to_string(p) + ".prompt_ids");
    if (r.prompt.empty()) r.prompt = ids(std::to_string(p) + ".input_ids");
    r.ignore_eos = true;
    r.max_tokens = static_cast<int64_t>(recorded(p).size());
    r.sampling.temperature = 0;
    r.sampling.seed = p;
    all.push_back(std::move(r));
  }
  ASSERT_FALSE(all.empty());
  for (int draft : {0, 3}) {
    const Outcome got = run({.context = 512, .prefill_chunk = 64, .draft = draft}, {all});
    for (uint64_t p = 0; p < all.size(); ++p) EXPECT_EQ(got.answers.at(p).ids, recorded(p)) << p;
    // mini's layer agrees with nearly all of these answers.
    if (draft > 0 && name() == "mini") { EXPECT_GT(got.stats.accepted_tokens * 2, got.stats.drafted_tokens); }
  }
}

std::string title(const testing::TestParamInfo<Real::ParamType>& info) {
  const auto& [name, exact] = info.param;
  return parameter_name(name + (exact ? "_exact" : "_fast"));
}
const auto kCheckpoints =
    testing::Values("mini", "models/v2-lite-f32", "models/v2-f32", "models/v3-bf16", "models/v3-fp8-ue8m0",
                    "models/qwen2-tied-bf16", "models/qwen3-bf16", "models/llama3-rope-bf16",
                    "gguf/v2-lite-split.Q8_0.gguf", "gguf/llama.Q5_1.gguf", "gguf/v2-lite-wide-joined.Q4_K_M.gguf");
INSTANTIATE_TEST_SUITE_P(Checkpoints, Real, testing::Combine(kCheckpoints, testing::Bool()), title);
INSTANTIATE_TEST_SUITE_P(Checkpoints, Recorded, testing::Combine(kCheckpoints, testing::Values(true)), title);

}  // namespace
}  // namespace sonde::test
