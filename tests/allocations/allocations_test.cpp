// A step of answers under way allocates nothing. Memory is taken where a text grows: by a page, by its own length (once
// more as much), and where attention over it is first cut among the threads.
// A program of its own, because it replaces operator new.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <new>
#include <thread>

#include "engine/parts.h"
#include "support/assets.h"

namespace {
std::atomic<int64_t> allocations = 0;

void* allocate(std::size_t bytes, std::size_t alignment) {
  ++allocations;
  void* at = std::aligned_alloc(alignment, (std::max<std::size_t>(bytes, 1) + alignment - 1) / alignment * alignment);
  if (at == nullptr) throw std::bad_alloc();
  return at;
}
}  // namespace

void* operator new(std::size_t bytes) { return allocate(bytes, alignof(std::max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t alignment) { return allocate(bytes, std::size_t(alignment)); }
void operator delete(void* at) noexcept { std::free(at); }
void operator delete(void* at, std::size_t) noexcept { std::free(at); }
void operator delete(void* at, std::align_val_t) noexcept { std::free(at); }
void operator delete(void* at, std::size_t, std::align_val_t) noexcept { std::free(at); }

namespace sonde::test {
namespace {

// Allocations up to each token of the first answer: [tokens].
std::vector<int64_t> count(const std::string& path, bool exact, int batch, int draft) {
  constexpr int64_t kTokens = 94;
  auto checkpoint = Checkpoint::open(path);
  EXPECT_TRUE(checkpoint.ok());
  if (!checkpoint.ok()) return {};
  EngineParts parts;
  parts.checkpoint = std::move(checkpoint).value();
  auto model = Model::load(parts.checkpoint, {.exact = exact});
  EXPECT_TRUE(model.ok());
  if (!model.ok()) return {};
  parts.model = std::move(model).value();
  // No tokenizer: a text longer than a std::string's own place has to be put somewhere.
  std::vector<int64_t> seen(kTokens);
  std::atomic<int> fetched = 0;  // streams that have given an event
  parts.watch_logits = [&](const Request& r, int64_t token, std::span<const float>) {
    if (r.sampling.seed != 0) return;
    seen[std::size_t(token)] = allocations;
    // Where others keep the processors busy the client may be late: it has to have given its memory to the channels.
    for (int i = 0; token == 20 && fetched < batch && i < 10000; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
  };
  const EngineOptions options{
      .threads = 2, .context = 256, .max_batch = batch, .kv_bytes = int64_t{64} << 20, .draft = draft};
  auto engine = make_engine(std::move(parts), options);
  EXPECT_TRUE(engine.ok());
  if (!engine.ok()) return {};
  std::vector<std::unique_ptr<Stream>> streams;
  for (int i = 0; i < batch; ++i) {
    Request r;
    for (int32_t t = 0; t < 128; ++t) r.prompt.push_back((t * 37 + i * 11) % 150);
    r.max_tokens = kTokens, r.ignore_eos = true, r.loop_guard = false;
    r.sampling = {.temperature = 0.6, .top_p = 0.95, .seed = uint64_t(i)};
    if (draft < 0) r.sampling.repetition_penalty = 1.05, r.sampling.presence_penalty = 0.1;
    streams.push_back((*engine)->submit(std::move(r)).value());
  }
  std::vector<Event> events(streams.size());
  for (Event& event : events) event.ids.reserve(kTokens), event.thought.reserve(kTokens);
  for (bool any = true; any; fetched = batch) {
    any = false;
    for (std::size_t i = 0; i < streams.size(); ++i) {
      if (!streams[i]->next(events[i])) continue;
      any = true;  // the channel gets this memory back, enough for all tokens
      events[i].ids.reserve(kTokens), events[i].thought.reserve(kTokens);
    }
  }
  engine->reset();
  return seen;
}

class Allocations : public testing::TestWithParam<std::tuple<std::string, bool, int, int>> {};

TEST_P(Allocations, NoneInAStep) {
  const auto& [name, exact, batch, draft] = GetParam();
  const std::string path = name == "mini" ? source("models/mini") : find_golden(name);
  if (path.empty()) GTEST_SKIP() << name << " is not at hand";
  const std::vector<int64_t> seen = count(path, exact, batch, draft);
  ASSERT_FALSE(seen.empty());
  // Prompts are 128 tokens, and pages hold 32.
  // Of 24 steps none allocates; but where others keep the processors busy, a thread may take its first share of some
  // work, and the scratch for it, as late as here; and drafts make steps of several widths.
  const int64_t late = draft == 0 ? 6 : 12;
  const bool apart = batch > 1 && draft != 0;  // drafts let some answers come to their next page before others
  if (!apart) {
    EXPECT_LE(seen[60] - seen[36], late);
    EXPECT_LE(seen[92] - seen[68], late);
  }
  // A page: its place in three lists of the sequence, its name (two hashes of a text), two entries of the prefix cache.
  EXPECT_LE(seen[92] - seen[36], batch * 16 * (apart ? 3 : 1) + 2 * late);
  EXPECT_GT(seen[92] - seen[36], 0);  // so the counter counts
}

std::string title(const testing::TestParamInfo<Allocations::ParamType>& info) {
  std::string name = std::get<0>(info.param) + (std::get<1>(info.param) ? "_exact_" : "_fast_") +
                     std::to_string(std::get<2>(info.param)) + "_draft_" +
                     (std::get<3>(info.param) < 0 ? "auto" : std::to_string(std::get<3>(info.param)));
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}
INSTANTIATE_TEST_SUITE_P(, Allocations,
                         testing::Combine(testing::Values("mini", "models/qwen3-bf16", "gguf/qwen2.Q4_0.gguf",
                                                          "gguf/v2-lite-split.Q8_0.gguf", "models/v3-fp8"),
                                          testing::Bool(), testing::Values(1, 8), testing::Values(0, 3, -1)),
                         title);

}  // namespace
}  // namespace sonde::test
