// Several threads submit, read and cancel at once. Meant for the thread sanitizer, true without it.
#include <gtest/gtest.h>

#include <thread>

#include "engine/fake_model.h"

namespace sonde::test {
namespace {

TEST(EngineStress, ManyClientsAtOnce) {
  for (int64_t pages : {10, 200}) {
    Fake fake = fake_engine(true,
                            {.threads = 2,
                             .context = 256,
                             .max_batch = 5,
                             .prefill_chunk = 64,
                             .kv_bytes = pages * kFakePage / 2 * 3,
                             .draft = pages == 10 ? 3 : -1},
                            {}, 512, 0, {.mtp = true});
    ASSERT_TRUE(fake.engine);
    std::atomic<int> wrong = 0, whole = 0, cut = 0;
    std::mutex report_mutex;
    std::string report;
    std::vector<std::thread> clients;
    for (uint64_t client = 0; client < 6; ++client) {
      clients.emplace_back([&, client] {
        for (uint64_t i = 0; i < 25; ++i) {
          const uint64_t dice = mix(client, i);
          Request r;
          r.prompt = random_prompt(static_cast<int64_t>(dice % 120), dice % 4);  // beginnings in common
          // Its own end: else an answer may begin as a longer prompt goes on, and its pages, of the other form, be
          // found.
          r.prompt.push_back(kPoison - 1);
          r.max_tokens = static_cast<int64_t>(1 + (dice >> 20) % 80);
          r.sampling.seed = dice;
          r.loop_guard = false;
          const int samples = 1 + static_cast<int>((dice >> 40) % 3);
          auto streams = fake.engine->submit_group(r, samples);
          if (!streams.ok()) {
            ++wrong;
            continue;
          }
          for (int s = 0; s < samples; ++s) {
            Stream& stream = *streams.value()[static_cast<std::size_t>(s)];
            if ((dice >> 50) % 5 == 0) stream.cancel();
            const Collected got = collect(stream);
            const auto want =
                expected_answer(r.prompt, r.max_tokens, r.sampling, true, false, static_cast<uint64_t>(s));
            const bool whole_answer = got.finish_reason != "cancelled";
            (whole_answer ? whole : cut) += 1;
            const bool right =
                whole_answer ? got.ids == want : std::equal(got.ids.begin(), got.ids.end(), want.begin());
            if (!right) {
              ++wrong;
              const auto at =
                  std::mismatch(got.ids.begin(), got.ids.end(), want.begin(), want.end()).first - got.ids.begin();
              std::lock_guard lock(report_mutex);
              report += "prompt " + std::to_string(r.prompt.size()) + ", sample " + std::to_string(s) + " of " +
                        std::to_string(samples) + ": differs at " + std::to_string(at) + " of " +
                        std::to_string(want.size()) + ", " + got.finish_reason + ", " +
                        (got.error ? got.error->message() : "") + "\n";
            }
            if ((dice >> 52) % 7 == 0) break;  // the rest is dropped unread
          }
          (void)fake.engine->stats();
        }
      });
    }
    for (auto& client : clients) client.join();
    EXPECT_EQ(wrong, 0) << report;
    EXPECT_GT(whole, 0);
    EXPECT_GT(cut, 0);
    const auto stats = when_idle(*fake.engine);  // streams dropped unread are swept soon
    EXPECT_EQ(stats.running, 0);
    EXPECT_EQ(stats.waiting, 0);
    EXPECT_EQ(stats.pages_used, 0);
  }
}

}  // namespace
}  // namespace sonde::test
