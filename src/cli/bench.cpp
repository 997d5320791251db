#include "cli/bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "cli/interrupt.h"
#include "cli/progress.h"

namespace sonde {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

Profile::Arithmetic most(const Profile& profile) {
  double done[3] = {0, 0, 0};
  for (const Profile::Operation& o : profile.operations())
    for (const auto kind : {Profile::kF32, Profile::kBf16, Profile::kInt8}) done[kind] += o.operations[kind];
  return Profile::Arithmetic(std::max_element(done, done + 3) - done);
}

}  // namespace

double Measurement::step_seconds(double share) const {
  std::vector<double> sorted = steps;
  std::sort(sorted.begin(), sorted.end());
  return sorted.empty() ? 0 : sorted[std::size_t(share * double(sorted.size() - 1))];
}

Peaks Measurement::peaks() const {
  const auto mean = [&](double Peaks::*rate) { return (before.*rate + after.*rate) / 2; };
  return {mean(&Peaks::dram_read_gbs), mean(&Peaks::dram_mean_gbs), mean(&Peaks::fma_gflops), mean(&Peaks::int8_gops), mean(&Peaks::bf16_gflops),
          mean(&Peaks::fork_join_us)};
}

Result<double> Bench::warm_up() {
  // A mixture's first token meets few experts: so many bring in the others, but one in e^8.
  const int64_t of = std::max<int64_t>(1, config().num_experts_per_tok);
  const int64_t more_tokens = std::max<int64_t>(1, 8 * config().n_routed_experts / of);
  SONDE_TRY(const Pages pages, Pages::make(layout(), more_tokens));
  const int64_t layers = config().num_hidden_layers;
  ProgressLine progress("bringing the weights in", 2 * layers, "layers");
  const Clock::time_point start = Clock::now();
  const std::vector<int32_t> ids = random_ids(1);
  const SequenceChunk chunk{ids, 0, pages.all(), true, Logits::kLast};
  const auto forward = [&](const SequenceChunk& some, int64_t done, Profile::Arithmetic& arithmetic) {
    Profile profile;
    direct_.pool->profile(&profile);
    const bool whole =
        direct_.model->forward(*direct_.pool, std::span(&some, 1), out_, nullptr, watched(progress, done, layers));
    direct_.pool->profile(nullptr);
    arithmetic = most(profile);
    return whole;
  };
  if (!forward(chunk, 0, answers_)) return stopped();
  const double seconds = since(start);
  const std::vector<int32_t> more = random_ids(more_tokens);
  const SequenceChunk rest{more, 0, pages.all(), /*absorbed=*/false, Logits::kNone};
  if (!forward(rest, layers, prompts_)) return stopped();
  progress.clear();
  ProgressLine moving("moving the weights into huge pages", 0, "steps");
  for (int64_t n = 1; direct_.model->move_weights(*direct_.pool); ++n) {
    moving.update(n);
    if (Interrupt::requested()) return stopped();
  }
  return seconds;
}

Result<Measurement> Bench::prefill(int64_t depth, int64_t chunk_tokens, bool one_form) {
  Measurement m = start("prefill", 1, depth);
  m.chunk = std::min(chunk_tokens, options_.prompt);
  m.one_form = one_form, m.arithmetic = one_form ? answers_ : prompts_;
  SONDE_TRY(const Pages pages, filled(depth + options_.prompt, depth));
  const std::vector<int32_t> ids = random_ids(options_.prompt);
  ProgressLine progress(fmt::format("prefill at depth {}{}", depth, one_form ? " in one form" : ""), options_.prompt, "tokens");
  do {
    for (int64_t done = 0; done < options_.prompt; done += m.chunk) {
      const int64_t n = std::min(m.chunk, options_.prompt - done);
      const SequenceChunk chunk{std::span(ids).subspan(size_t(done), size_t(n)), depth + done, pages.all(), one_form,
                                done + n == options_.prompt ? Logits::kLast : Logits::kNone};
      SONDE_CHECK(step(std::span(&chunk, 1), m, watched(progress, done, n)));
      m.tokens += n;
      m.bytes += survey_.step_bytes(config(), n) + kv_bytes(depth + done);
      m.flops += attention_flops(n * (depth + done) + n * (n + 1) / 2, one_form);
    }
  } while (m.seconds < options_.seconds / 4);
  // The head sees the last token of a prompt alone.
  const double head = static_cast<double>(config().vocab_size) * static_cast<double>(config().hidden_size);
  const double without = static_cast<double>(m.tokens - m.tokens / options_.prompt);
  m.flops += 2.0 * (static_cast<double>(survey_.work.weights) * static_cast<double>(m.tokens) - head * without);
  return m;
}

Result<Measurement> Bench::decode(int64_t batch, int64_t depth) {
  Measurement m = start("decode", batch, depth);
  m.arithmetic = answers_;
  SONDE_TRY(const SamplingOptions sampling, options_.run.sampling({.temperature = 0}));
  std::vector<Pages> pages;
  std::vector<Sampler> samplers;
  for (int64_t b = 0; b < batch; ++b) {
    SONDE_TRY(Pages own, filled(depth + options_.tokens, depth));
    pages.push_back(std::move(own));
    samplers.emplace_back(sampling, 1, uint64_t(b), std::span<const int32_t>());
  }
  ProgressLine progress(fmt::format("decode, batch {}, depth {}", batch, depth), options_.tokens, "steps");
  do {
    for (int64_t i = 0; i < options_.tokens; ++i) {
      const std::vector<int32_t> ids = random_ids(batch);
      std::vector<SequenceChunk> chunks;
      for (int64_t b = 0; b < batch; ++b)
        chunks.push_back(
            {std::span(ids).subspan(size_t(b), 1), depth + i, pages[size_t(b)].all(), true, Logits::kLast,
             samplers[size_t(b)].summary_factor()});
      SONDE_CHECK(step(chunks, m, watched(progress, i, 1), samplers));
      m.tokens += batch;
      m.bytes += survey_.step_bytes(config(), batch) + static_cast<double>(batch) * kv_bytes(depth + i);
      m.flops += attention_flops(batch * (depth + i + 1), true);
    }
  } while (m.seconds < options_.seconds / 4);
  m.flops += 2.0 * static_cast<double>(survey_.work.weights) * static_cast<double>(m.tokens);
  return m;
}

double Bench::kv_bytes(int64_t tokens) const {
  return static_cast<double>(config().num_hidden_layers * layout().record * layout().type->bytes * tokens);
}

double Bench::attention_flops(int64_t seen, bool absorbed) const {
  const ModelConfig& c = config();
  int64_t width = 2 * c.head_dim;  // of a query's product with a key, and of a weight's with a value
  if (c.is_mla()) {
    width = absorbed ? 2 * c.kv_lora_rank + c.qk_rope_head_dim : c.qk_nope_head_dim + c.qk_rope_head_dim + c.v_head_dim;
  }
  return 2.0 * static_cast<double>(c.num_hidden_layers * c.num_attention_heads * width) * static_cast<double>(seen);
}

Measurement Bench::start(const char* what, int64_t batch, int64_t depth) const {
  Measurement m{what, batch, depth};
  if (options_.profile) m.profile.emplace();
  return m;
}

Status Bench::step(std::span<const SequenceChunk> chunks, Measurement& m, const StepWatch& watch, std::span<Sampler> samplers) {
  direct_.pool->profile(m.profile ? &*m.profile : nullptr);
  const Clock::time_point start = Clock::now();
  const bool whole = direct_.model->forward(*direct_.pool, chunks, out_, nullptr, watch);
  if (whole) {
    const Profile::Scope scope(direct_.pool->profile(), "choice of tokens");
    direct_.pool->share(int64_t(samplers.size()), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const SummarisedRow row = out_.row(i, config().vocab_size);
        if (finite(row)) samplers[size_t(i)].accept(samplers[size_t(i)].choose(row));
      }
    });
  }
  m.steps.push_back(since(start));
  m.seconds += m.steps.back();
  direct_.pool->profile(nullptr);
  return whole && !Interrupt::requested() ? Status() : stopped();
}

std::vector<int32_t> Bench::random_ids(int64_t n) {
  std::vector<int32_t> ids(static_cast<std::size_t>(n));
  for (int32_t& id : ids) id = static_cast<int32_t>(random_.next_u64() % static_cast<uint64_t>(config().vocab_size));
  return ids;
}

Result<Pages> Bench::filled(int64_t tokens, int64_t depth) {
  SONDE_TRY(Pages pages, Pages::make(layout(), tokens));
  const KvLayout form = layout();
  std::vector<float> values(static_cast<std::size_t>(form.layers * kPageTokens * form.record));
  for (int64_t p = 0; p * kPageTokens < depth; ++p) {
    for (float& value : values) value = static_cast<float>(random_.next_u32()) * 0x1p-32f - 0.5f;
    form.type->pack(values.data(), static_cast<int64_t>(values.size()), pages.all()[size_t(p)]);
  }
  return pages;
}

}  // namespace sonde
