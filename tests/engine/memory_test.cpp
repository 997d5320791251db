// The memory that an engine takes at most, as the system measures it: packed weights and cache, and three hundredths.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "base/memory.h"
#include "files/checkpoint.h"
#include "model/model.h"
#include "sonde/engine.h"
#include "support/sanitized.h"
#include "support/zero_model.h"

namespace sonde::test {
namespace {

namespace fs = std::filesystem;

// A vocabulary does not belong here: what a tokenizer takes is no part of the bound.
void write_model(const std::string& path, int64_t layers) {
  SynthShape shape = kLatent;
  shape.layers = 4, shape.hidden = 2048, shape.intermediate = 5632, shape.heads = shape.key_heads = 16, shape.vocabulary = 24576;
  shape.latent->q_rank = 0, shape.latent->kv_rank = 512, shape.latent->width = 1024;
  write_zeros(path, shape, *mix_by_name("Q4_K_M"), layers);
}

struct Taken {
  bool answered = false;
  int64_t packed = 0, made = 0, matrices = 0, kv = 0;
  int64_t most = 0;    // bytes at any matrix, and behind an answer: without pages of the model's file
  int64_t peak = 0;    // by the system's word, with these
  int64_t source = 0;  // these, behind an answer
};

// Starts an engine and takes an answer from it, in this process, which held `before` bytes.
Taken start(const std::string& path, const std::string& cache) {
  const int64_t before = resident();
  Taken taken;
  const auto sample = [&] {
    const ResidentParts parts = resident_parts();
    taken.source = resident_of_file(path);
    taken.most = std::max(taken.most, parts.own + parts.files - taken.source - before);
  };
  EngineOptions options{.threads = 2, .context = 512, .max_batch = 1, .prefill_chunk = 32, .draft = 0, .cache = cache};
  options.progress = [&](int64_t, int64_t) { sample(); };
  const auto engine = Engine::open(path, options);
  if (!engine.ok()) {
    printf("%s\n", engine.error().message().c_str());
    return taken;
  }
  const auto stream = (*engine)->submit({.prompt = std::vector<int32_t>(40, 7), .max_tokens = 20, .ignore_eos = true});
  int64_t ids = 0;
  for (Event event; stream.ok() && (*stream)->next(event);) ids += int64_t(event.ids.size());
  std::this_thread::sleep_for(std::chrono::milliseconds(500));  // weights move into huge pages
  sample();
  Model& model = (*engine)->model();
  taken.packed = model.packed().bytes, taken.made = model.packed().made, taken.matrices = model.packed().matrices;
  taken.kv = (*engine)->options().kv_bytes;
  taken.peak = peak_resident() - before;
  taken.answered = ids == 20;
  return taken;
}

// The same in a process of its own, whose peak begins here.
Taken start_apart(const std::string& path, const std::string& cache) {
  int ends[2];
  Taken taken;
  if (pipe(ends) != 0) return taken;
  const pid_t child = fork();
  if (child == 0) {
    taken = start(path, cache);
    _exit(write(ends[1], &taken, sizeof taken) == ssize_t(sizeof taken) ? 0 : 1);
  }
  close(ends[1]);
  if (read(ends[0], &taken, sizeof taken) != ssize_t(sizeof taken)) taken = {};
  close(ends[0]);
  waitpid(child, nullptr, 0);
  return taken;
}

// What every start takes beside weights and cache: code, a step's scratch, and for each of two threads a piece of 16 MiB
// on its way into huge pages.
constexpr int64_t kRest = (2 * 16 + 24) << 20;

TEST(Memory, IsPackedWeightsAndCacheAndThreeHundredths) {
  if (kSanitized) GTEST_SKIP() << "sanitizers take memory of their own";
  std::string name = fs::temp_directory_path() / "sonde-memory-XXXXXX";
  const fs::path folder = mkdtemp(name.data());
  if (fs::space(folder).available < uintmax_t{3} << 30) {
    fs::remove_all(folder);
    GTEST_SKIP() << "there is no room for a cache file";
  }
  const std::string cache = folder / "cache";
  const auto files = [&](int64_t layers) { return (folder / (std::to_string(layers) + ".gguf")).string(); };
  constexpr int64_t kFew = 1, kMany = 3;
  write_model(files(kFew), kFew), write_model(files(kMany), kMany);
  for (const std::string start : {"in memory", "first", "second"}) {
    SCOPED_TRACE(start);
    Taken taken[2];
    for (const int64_t layers : {kFew, kMany}) {
      Taken& t = taken[layers == kMany];
      t = start_apart(files(layers), start == "in memory" ? "" : cache);
      ASSERT_TRUE(t.answered);
      EXPECT_EQ(t.made, start == "second" ? 0 : t.matrices);
      EXPECT_LE(double(t.most), 1.03 * double(t.packed + t.kv) + double(kRest));
      EXPECT_LE(double(t.peak - t.source), 1.03 * double(t.packed + t.kv) + double(kRest));
      printf("%s: packed %.1f MiB, cache %.1f, most %.1f, peak %.1f, of the model's file %.1f\n", start.c_str(),
             double(t.packed) * 0x1p-20, double(t.kv) * 0x1p-20, double(t.most) * 0x1p-20, double(t.peak) * 0x1p-20,
             double(t.source) * 0x1p-20);
    }
    // What both take alike is gone from the difference.
    const auto& [few, many] = taken;
    ASSERT_GT(many.packed - few.packed, int64_t{140} << 20);
    EXPECT_LE(double(many.most - few.most), 1.03 * double(many.packed + many.kv - few.packed - few.kv));
  }
  fs::remove_all(folder);
}

}  // namespace
}  // namespace sonde::test
