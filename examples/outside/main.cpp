// outside MODEL ID...: continues the given token ids greedily and prints the text as it comes.
//
//   build/outside /opt/sonde/share/sonde/models/mini 0 1020 627 223 25 90 334 223 23 366 223 22 18 16 1021 1022 201
//
// These are the ids of "Solve 7x + 5 = 40." as `sonde render` makes them for the embedded model.
#include <sonde/engine.h>

#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
  if (argc < 3) return std::fprintf(stderr, "usage: %s MODEL ID...\n", argv[0]), 2;
  sonde::Request request;
  for (int i = 2; i < argc; ++i) request.prompt.push_back(int32_t(std::strtol(argv[i], nullptr, 10)));
  request.max_tokens = 300;
  request.sampling.temperature = 0;

  auto engine = sonde::Engine::open(argv[1], {});
  if (!engine.ok()) return std::fprintf(stderr, "%s\n", engine.error().message().c_str()), 1;
  auto stream = engine.value()->submit(std::move(request));
  if (!stream.ok()) return std::fprintf(stderr, "%s\n", stream.error().message().c_str()), 1;
  for (sonde::Event event; stream.value()->next(event);) {
    if (event.error) return std::fprintf(stderr, "%s\n", event.error->message().c_str()), 1;
    std::fputs(event.text.c_str(), stdout);
    std::fflush(stdout);
  }
  std::fputs("\n", stdout);
}
