// The flags that are the same on every command that runs a model, and what they open.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/args.h"
#include "sonde/engine.h"

namespace sonde {

// MODEL as a positional, or -m MODEL.
struct ModelFlags {
  std::string positional, named;
  void declare(Args& args);
  Result<std::string> path() const;              // an error where neither or both are given
  Result<std::string> path_or_embedded() const;  // the embedded default where neither is, said on stderr
};

// Files of fewer bytes run exactly unless --fast is given: they are quick all the same, and rounding moves small models
// most.
inline constexpr int64_t kFastFrom = int64_t{256} << 20;

struct RunFlags {
  int threads = 0;
  int64_t context = 0;
  std::string dialect;
  std::string draft = "auto";  // "auto", "off" or a number
  bool exact = false, fast = false, reproducible = false;
  std::optional<double> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int> top_k;
  std::optional<uint64_t> seed;
  std::vector<std::string> logit_bias;  // "ID:VALUE"
  std::vector<std::string> stop;

  void declare(Args& args);
  Status check() const;  // what the command line alone can tell
  EngineOptions engine_options() const;
  bool exact_for(int64_t file_bytes) const { return exact || (!fast && file_bytes < kFastFrom); }
  // `defaults` with what was given on the command line.
  Result<SamplingOptions> sampling(SamplingOptions defaults) const;
};

void declare_json(Args& args, bool& json);

// What is wrong with the command line, for finish().
Error usage_mistake(const std::string& message);

// The path of the embedded default, said on stderr.
Result<std::string> embedded_default();
Result<std::unique_ptr<Engine>> open_engine(const std::string& path, EngineOptions options);

// "1,2,3", "[1, 2, 3]", "1 2 3", {"ids": [1, 2, 3]}, "@FILE" that holds such a list, or "-" for standard input. No ids
// at all are an error unless `or_none`.
Result<std::vector<int32_t>> read_ids(const std::string& text, bool or_none = false);
// A whole file; "-" is standard input. At most `limit` bytes.
Result<std::string> read_input(const std::string& path, int64_t limit = int64_t{1} << 32);

}  // namespace sonde
