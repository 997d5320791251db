// How fast a vocabulary opens and encodes: tokenizer_bench MODEL TEXT. CPU time of one thread.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <sstream>
#include <string>

#include "files/checkpoint.h"
#include "text/tokenizer.h"

namespace {

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

template <class Work>
double seconds(const Work& work) {
  double start = cpu_seconds();
  work();
  return cpu_seconds() - start;
}

int fail(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return fail("usage: tokenizer_bench MODEL TEXT");
  std::ifstream file(argv[2], std::ios::binary);
  std::stringstream buffer;
  buffer << file.rdbuf();
  const std::string text = buffer.str();
  if (text.empty()) return fail(std::string(argv[2]) + ": no text");
  const double megabytes = static_cast<double>(text.size()) / 1e6;

  auto checkpoint = sonde::Checkpoint::open(argv[1]);
  if (!checkpoint.ok()) return fail(checkpoint.error().message());
  double best = 1e9, fresh = 1e9;
  size_t tokens = 0;
  for (int round = 0; round < 5; ++round) {  // a fresh tokenizer has seen no text: its cache is empty
    double open = 0;
    auto tokenizer = [&] {
      double start = cpu_seconds();
      auto made = sonde::Tokenizer::open(**checkpoint);
      open = cpu_seconds() - start;
      return made;
    }();
    if (!tokenizer.ok()) return fail(tokenizer.error().message());
    best = std::min(best, open);
    fresh = std::min(fresh, seconds([&] { tokens = (*tokenizer)->encode(text).size(); }));
    if (round < 4) continue;
    double again = 1e9, decode = 1e9;
    auto ids = (*tokenizer)->encode(text);
    for (int i = 0; i < 10; ++i) again = std::min(again, seconds([&] { ids = (*tokenizer)->encode(text); }));
    std::string decoded;
    for (int i = 0; i < 10; ++i) decode = std::min(decode, seconds([&] { decoded = (*tokenizer)->decode(ids); }));
    std::printf(
        "open %.3f s; %zu bytes, %zu tokens; encode %.1f MB/s the first time, %.1f MB/s again; decode %.0f MB/s\n",
        best, text.size(), tokens, megabytes / fresh, megabytes / again,
        static_cast<double>(decoded.size()) / 1e6 / decode);
  }
}
