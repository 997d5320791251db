// replay CORPUS: feeds every file of the folder to a fuzz target, then mutations of them (flipped bits, overwritten and
// removed bytes, hostile numbers, splices) from a fixed seed, for at most five seconds. A crash is the failure.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;

void mutate(Bytes& bytes, const std::vector<Bytes>& corpus, std::mt19937_64& random) {
  static constexpr uint64_t kHostile[] = {0,          1,           0x7f,       0xff,         0xffff,
                                          0x7fffffff, 0x80000000u, 0xffffffff, ~uint64_t{0}, uint64_t{1} << 63};
  for (uint64_t steps = 1 + random() % 4; steps > 0; --steps) {
    if (bytes.empty()) bytes.push_back(uint8_t(random()));
    const size_t at = random() % bytes.size();
    switch (random() % 6) {
      case 0:
        bytes[at] ^= uint8_t(1u << random() % 8);
        break;
      case 1:
        bytes[at] = uint8_t(random());
        break;
      case 2:
        bytes.resize(at);
        break;
      case 3:
        bytes.insert(bytes.begin() + std::ptrdiff_t(at), 1 + random() % 8, bytes[at]);
        break;
      case 4: {
        const uint64_t value = kHostile[random() % std::size(kHostile)];
        const size_t width = size_t{1} << random() % 4;
        if (at + width <= bytes.size()) std::memcpy(&bytes[at], &value, width);  // little-endian, as the formats are
        break;
      }
      default: {
        const Bytes& other = corpus[random() % corpus.size()];
        if (other.empty()) break;
        const size_t from = random() % other.size();
        bytes.resize(at);
        bytes.insert(bytes.end(), other.begin() + std::ptrdiff_t(from), other.end());
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  namespace fs = std::filesystem;
  std::vector<Bytes> corpus;
  if (argc == 2 && fs::is_directory(argv[1])) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(argv[1])) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) {
      std::ifstream in(file, std::ios::binary);
      corpus.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    }
  }
  if (corpus.empty()) {
    std::fprintf(stderr, "usage: %s CORPUS (a folder with at least one file)\n", argv[0]);
    return 2;
  }
  LLVMFuzzerTestOneInput(nullptr, 0);
  for (const Bytes& bytes : corpus) LLVMFuzzerTestOneInput(bytes.data(), bytes.size());

  std::mt19937_64 random(1);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  long mutations = 0;
  for (; mutations < 20000 && std::chrono::steady_clock::now() < end; ++mutations) {
    Bytes bytes = corpus[random() % corpus.size()];
    mutate(bytes, corpus, random);
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf("%zu files of the corpus and %ld mutations\n", corpus.size(), mutations);
  return 0;
}
