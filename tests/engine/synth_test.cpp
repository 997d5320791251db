// A made-up file's layer of multi-token prediction drafts, and answers are those without it.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "engine/fake_model.h"
#include "files/synth.h"

namespace sonde::test {
namespace {

namespace fs = std::filesystem;

TEST(SynthMini, ItsLayerDraftsAndAnswersStayTheSame) {
  const fs::path path = fs::temp_directory_path() / ("sonde-synth-drafts-" + std::to_string(::getpid()) + ".gguf");
  ASSERT_TRUE(write_synthetic({"mini", "Q8_0", path.string(), {}, 3, {}}).ok());
  for (const bool exact : {true, false}) {
    Collected answers[2];
    for (const int draft : {0, 3}) {
      auto engine = Engine::open(path.string(), {.threads = 2, .context = 256, .exact = exact, .draft = draft});
      ASSERT_TRUE(engine.ok()) << engine.error().message();
      EXPECT_TRUE((*engine)->model().has_mtp());
      Request r;
      for (int32_t i = 0; i < 60; ++i) r.prompt.push_back(300 + i);  // nothing to look up
      r.max_tokens = 40, r.ignore_eos = true, r.loop_guard = false;
      r.sampling = {.temperature = 1, .seed = 7};
      answers[draft > 0] = collect(*(*engine)->submit(std::move(r)).value());
    }
    EXPECT_EQ(answers[0].ids.size(), 40u);
    EXPECT_EQ(answers[1].ids, answers[0].ids);
    EXPECT_EQ(answers[0].usage.drafted_tokens, 0);
    EXPECT_GT(answers[1].usage.drafted_tokens, 39);
  }
  fs::remove(path);
}

}  // namespace
}  // namespace sonde::test
