// The timed steps of `sonde bench`.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/profile.h"
#include "base/random.h"
#include "cli/direct.h"
#include "cli/survey.h"
#include "kernels/peaks.h"
#include "sample/sampler.h"
#include "sonde/engine.h"

namespace sonde {

struct BenchOptions {
  ModelFlags model;
  RunFlags run;
  int64_t prompt = 512, tokens = 64;
  std::vector<int64_t> chunks = {EngineOptions{}.prefill_chunk};  // tokens of a prompt in one step, at most
  std::vector<int64_t> batches = {1}, depths = {0};
  double seconds = 2;  // of measuring the machine at the start; of a result at least a quarter of that
  bool json = false, profile = false;
};

struct Measurement {
  const char* what;  // "prefill", "decode"
  int64_t batch, depth;
  int64_t chunk = 0;      // of a prompt, in one step
  bool one_form = false;  // a prompt in the form of answers
  double of_plain = 0;    // its speed over that of the prompt's own form; 0: not compared
  int64_t tokens = 0;
  double seconds = 0, bytes = 0, flops = 0;
  std::vector<double> steps = {};  // the seconds of each
  std::optional<Profile> profile = {};
  Profile::Arithmetic arithmetic = Profile::kF32;  // of most operations: its peak bounds them
  Peaks before = {}, after = {};               // of the machine, measured right before and right after

  // What `share` of the steps did not exceed, in seconds.
  double step_seconds(double share) const;
  double rate() const { return static_cast<double>(tokens) / seconds; }
  double gbs() const { return bytes / seconds / 1e9; }
  double gflops() const { return flops / seconds / 1e9; }
  // The mean of both.
  Peaks peaks() const;
};

class Bench {
 public:
  Bench(DirectModel& direct, const BenchOptions& options)
      : direct_(direct), options_(options), survey_(survey(*direct.checkpoint, &direct.model->config())) {}

  // Brings the weights into memory: the seconds of the first step.
  Result<double> warm_up();
  // one_form: in that of answers, as under --reproducible.
  Result<Measurement> prefill(int64_t depth, int64_t chunk, bool one_form);
  Result<Measurement> decode(int64_t batch, int64_t depth);

  const Survey& tensors() const { return survey_; }
  // Of most operations of an answer.
  Profile::Arithmetic arithmetic() const { return answers_; }

 private:
  const ModelConfig& config() const { return direct_.model->config(); }
  KvLayout layout() const { return direct_.model->kv_layout(); }
  // Of the main layers; decode does not read the MTP layer's.
  double kv_bytes(int64_t tokens) const;
  // Floating-point operations of attention in all layers for rows that see `seen` tokens in all.
  double attention_flops(int64_t seen, bool absorbed) const;
  Measurement start(const char* what, int64_t batch, int64_t depth) const;
  // And the choice of a token of each row of logits, by its sampler.
  Status step(std::span<const SequenceChunk> chunks, Measurement& m, const StepWatch& watch, std::span<Sampler> samplers = {});
  std::vector<int32_t> random_ids(int64_t n);
  // Pages whose first `depth` tokens are random: how long attention takes does not depend on what it reads.
  Result<Pages> filled(int64_t tokens, int64_t depth);

  DirectModel& direct_;
  const BenchOptions& options_;
  const Survey survey_;
  Profile::Arithmetic answers_ = Profile::kF32, prompts_ = Profile::kF32;
  Random random_{1};
  ForwardResult out_;
};

}  // namespace sonde
