// The part of `sonde bench` that drafts: an engine's answer to a text that repeats itself, with drafts and without.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "cli/bench.h"

namespace sonde {

struct DraftMeasurement {
  std::string option;  // --draft
  bool mtp = false;    // the model has the layer; else texts alone are looked up
  bool words = false;  // the text is words, else random ids
  int64_t prompt = 0, tokens = 0;  // of the answers with drafts, as many as without
  int64_t drafted = 0, accepted = 0;
  double seconds = 0, plain_seconds = 0;

  double rate() const { return static_cast<double>(tokens) / seconds; }
  double plain_rate() const { return static_cast<double>(tokens) / plain_seconds; }
};

// Answers of options.tokens greedy tokens to a prompt of options.prompt, in turn without drafts and with them. Needs
// room for both in the context.
Result<DraftMeasurement> measure_drafts(DirectModel& direct, const BenchOptions& options);

void print_drafts(const DraftMeasurement& m);
nlohmann::ordered_json to_json(const DraftMeasurement& m);

}  // namespace sonde
