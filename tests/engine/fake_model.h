// A model whose logits are a hash of everything it finds in the pages: token, position and form of every record. A
// wrong, missing or stale page changes them all.
#pragma once

#include <atomic>
#include <chrono>
#include <cstring>
#include <limits>
#include <thread>

#include "engine/parts.h"
#include "sample/sampler.h"

namespace sonde::test {

inline constexpr int64_t kVocabulary = 61;
inline constexpr int32_t kPoison = 60;  // once in a sequence: logits that are not finite

inline uint64_t mix(uint64_t h, uint64_t x) {
  h ^= x + 0x9E3779B97F4A7C15u + (h << 6) + (h >> 2);
  h *= 0xFF51AFD7ED558CCDu;
  return h ^ (h >> 33);
}

// 24 bits, exact in a float.
inline float record_of(int32_t token, int64_t position, bool absorbed) {
  return static_cast<float>(mix(mix(mix(1, static_cast<uint64_t>(token)), static_cast<uint64_t>(position)), absorbed) >>
                            40);
}

inline std::vector<float> logits_of(uint64_t state) {
  std::vector<float> out(kVocabulary);
  for (int64_t i = 0; i < kVocabulary; ++i)
    out[i] = static_cast<float>(mix(state, static_cast<uint64_t>(i)) >> 44) * 1e-5f;
  out[kPoison] = -60;  // the model itself never says it
  return out;
}

struct FakeTraits {
  bool mtp = false;  // drafts right two times in three
  int mtp_microseconds = 0;  // that a call of that layer takes
  int echo = 0;      // mostly says what it said or read so many tokens before; 0: never
};

class FakeModel final : public Model {
 public:
  explicit FakeModel(bool latent, int64_t context = 512, int microseconds = 0, FakeTraits traits = {})
      : microseconds_(microseconds), traits_(traits) {
    config_.model_type = "fake";
    config_.vocab_size = kVocabulary;
    config_.hidden_size = kHidden;
    config_.num_hidden_layers = 2;
    config_.num_attention_heads = config_.num_key_value_heads = 1;
    config_.head_dim = 1;
    config_.kv_lora_rank = latent ? 2 : 0;
    config_.max_position_embeddings = context;
  }

  const ModelConfig& config() const override { return config_; }
  KvLayout kv_layout() const override { return {.layers = traits_.mtp ? 3 : 2, .record = 2}; }
  bool has_mtp() const override { return traits_.mtp; }
  Work work_per_token() const override { return {100, 100}; }
  int64_t parameters() const override { return 100; }
  int64_t active_parameters() const override { return 100; }
  int64_t owned_bytes() const override { return 0; }
  int64_t mapped_bytes() const override { return 0; }

  bool forward(ThreadPool& pool, std::span<const SequenceChunk> chunks, ForwardResult& out, Probe*,
               const StepWatch& watch) override {
    if (microseconds_ > 0) std::this_thread::sleep_for(std::chrono::microseconds(microseconds_));
    std::vector<int64_t> first_logits, first_state;
    int64_t logits = 0, states = 0, read_now = 0;
    bool answering = false;
    for (const SequenceChunk& chunk : chunks) {
      const auto n = static_cast<int64_t>(chunk.tokens.size());
      first_logits.push_back(logits), first_state.push_back(states);
      logits += chunk.logits == Logits::kAll ? n : chunk.logits == Logits::kLast ? 1 : 0;
      states += chunk.states ? n : 0;
      if (chunk.absorbed) answering = true;
      else read_now += n;
    }
    std::atomic<int64_t>& most = answering ? most_beside : most_alone;
    most = std::max(most.load(), read_now);
    out.logits.assign(static_cast<std::size_t>(logits * kVocabulary), 0);
    out.states.assign(static_cast<std::size_t>(states * kHidden), 0);
    for (int64_t layer = 0; layer < 2; ++layer) {
      if (watch && !watch(layer, 2)) return false;
      pool.share(static_cast<int64_t>(chunks.size()), 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t c = begin; c < end; ++c) write(chunks[static_cast<std::size_t>(c)], layer);
      });
    }
    pool.share(static_cast<int64_t>(chunks.size()), 1, [&](int64_t begin, int64_t end, int) {
      for (auto c = static_cast<std::size_t>(begin); c < static_cast<std::size_t>(end); ++c)
        read(chunks[c], out.logits.data() + first_logits[c] * kVocabulary,
             out.states.data() + first_state[c] * kHidden);
    });
    ++steps;
    rows += static_cast<int64_t>(chunks.size());
    if (fail.exchange(false)) throw std::runtime_error("a failure that was asked for");
    return true;
  }

  void forward_mtp(ThreadPool&, const SequenceChunk& next, std::span<const float> final, ForwardResult& out) override {
    ++mtp_calls;
    if (traits_.mtp_microseconds > 0) std::this_thread::sleep_for(std::chrono::microseconds(traits_.mtp_microseconds));
    check(next, final);
    out.logits.clear(), out.final.clear();
    const auto n = static_cast<int64_t>(next.tokens.size());
    for (int64_t i = 0; i < n; ++i) {
      const int32_t token = next.tokens[static_cast<std::size_t>(i)];
      const int64_t position = next.start + i;
      const float* from = final.data() + i * kHidden;
      float* own = record_at(next, 2, position);
      own[0] = static_cast<float>(token), own[1] = from[0];
      if (next.logits == Logits::kNone || (next.logits == Logits::kLast && i + 1 < n)) continue;
      uint64_t state = unpack(from);
      for (int layer = 0; layer < 2; ++layer) {
        state = mix(state, static_cast<uint64_t>(record_of(token, position + 1, config_.is_mla())));
      }
      auto values = answer(next, state, position + 1);
      if (state % 3 == 0) values[static_cast<std::size_t>(state % (kPoison - 1))] += 100;
      out.logits.insert(out.logits.end(), values.begin(), values.end());
      out.final.resize(out.final.size() + kHidden);
      pack(state, 1, out.final.data() + out.final.size() - kHidden);
    }
  }

  std::atomic<int64_t> steps = 0, rows = 0, mtp_calls = 0;
  std::atomic<int64_t> stale = 0;  // records of the MTP layer that were not those of their tokens (inside of pages)
  std::atomic<int64_t> most_alone = 0, most_beside = 0;  // tokens of prompts in a step, without and beside answers
  std::atomic<bool> fail = false;
  std::atomic<bool> misaligned = false;  // a prefill chunk began or ended where it must not

 private:
  static constexpr int64_t kHidden = 8;

  // A state as floats that hold it exactly; `depth` 1: of the MTP layer.
  static void pack(uint64_t state, float depth, float* out) {
    for (int i = 0; i < 3; ++i) out[i] = static_cast<float>(state >> (22 * i) & 0x3FFFFF);
    out[3] = depth;
  }
  static uint64_t unpack(const float* from) {
    uint64_t state = 0;
    for (int i = 0; i < 3; ++i) state |= static_cast<uint64_t>(from[i]) << (22 * i);
    return state;
  }

  static float* record_at(const SequenceChunk& chunk, int64_t layer, int64_t position) {
    auto* page = reinterpret_cast<float*>(chunk.pages[static_cast<std::size_t>(position / kPageTokens)]);
    return page + (layer * kPageTokens + position % kPageTokens) * 2;
  }

  void write(const SequenceChunk& chunk, int64_t layer) {
    if (!chunk.absorbed && chunk.start % kPageTokens != 0) misaligned = true;
    for (std::size_t i = 0; i < chunk.tokens.size(); ++i) {
      const int64_t position = chunk.start + static_cast<int64_t>(i);
      float* record = record_at(chunk, layer, position);
      record[0] = record_of(chunk.tokens[i], position, config_.is_mla() && chunk.absorbed);
      record[1] = static_cast<float>(chunk.tokens[i]);
    }
  }

  // What is said after `position`, when `state` is all up to there.
  std::vector<float> answer(const SequenceChunk& chunk, uint64_t state, int64_t position) const {
    auto values = logits_of(state);
    const int64_t back = position + 1 - traits_.echo;
    if (traits_.echo > 0 && back >= 0 && state % 8 != 0)
      values[static_cast<std::size_t>(record_at(chunk, 0, back)[1])] += 30;
    return values;
  }

  void read(const SequenceChunk& chunk, float* logits, float* states) const {
    uint64_t state = 7;
    bool poisoned = false;
    const int64_t length = chunk.start + static_cast<int64_t>(chunk.tokens.size());
    for (int64_t position = 0; position < length; ++position) {
      for (int64_t layer = 0; layer < 2; ++layer) {
        const float* record = record_at(chunk, layer, position);
        state = mix(state, static_cast<uint64_t>(record[0]));
        poisoned |= record[1] == kPoison;
      }
      if (position < chunk.start) continue;
      if (chunk.states) pack(state, 0, states), states += kHidden;
      if (chunk.logits == Logits::kNone || (chunk.logits == Logits::kLast && position + 1 < length)) continue;
      const auto values = answer(chunk, state, position);
      std::memcpy(logits, values.data(), values.size() * sizeof(float));
      if (poisoned) logits[17] = std::numeric_limits<float>::quiet_NaN();
      logits += kVocabulary;
    }
  }

  // The layer's records before a chunk that goes on from the model's own states.
  void check(const SequenceChunk& next, std::span<const float> final) {
    if (!next.absorbed && next.start % kPageTokens != 0) misaligned = true;
    if (final[3] != 0) return;
    uint64_t state = 7;
    for (int64_t position = 0; position < next.start; ++position) {
      for (int layer = 0; layer < 2; ++layer)
        state = mix(state, static_cast<uint64_t>(record_at(next, layer, position)[0]));
      if (position % kPageTokens == kPageTokens - 1) continue;  // belongs to whoever wrote there last
      float values[kHidden];
      pack(state, 0, values);
      const float* own = record_at(next, 2, position);
      if (own[0] != record_at(next, 0, position + 1)[1] || own[1] != values[0]) ++stale;
    }
  }

  ModelConfig config_;
  int microseconds_;
  FakeTraits traits_;
};

// What the engine must answer, by plain recomputation. `latent`: as the model was made; `absorbed_prompt`:
// --reproducible.
inline std::vector<int32_t> expected_answer(const std::vector<int32_t>& prompt, int64_t count,
                                            const SamplingOptions& options, bool latent, bool absorbed_prompt = false,
                                            uint64_t sample = 0) {
  uint64_t state = 7;
  int64_t position = 0;
  const auto feed = [&](int32_t token, bool absorbed) {
    for (int layer = 0; layer < 2; ++layer) {
      state = mix(state, static_cast<uint64_t>(record_of(token, position, latent && absorbed)));
    }
    ++position;
  };
  for (int32_t token : prompt) feed(token, absorbed_prompt);
  Sampler sampler(options, options.seed.value_or(0), sample, prompt);
  std::vector<int32_t> out;
  while (static_cast<int64_t>(out.size()) < count) {
    out.push_back(sampler.choose(logits_of(state)));
    sampler.accept(out.back());
    feed(out.back(), true);
  }
  return out;
}

// Ids below kPoison - 1.
inline std::vector<int32_t> random_prompt(int64_t length, uint64_t seed) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < length; ++i)
    ids.push_back(static_cast<int32_t>(mix(seed, static_cast<uint64_t>(i)) % (kPoison - 1)));
  return ids;
}

// One letter a token: 0 = 'a' ... 25 = 'z', 26 = "<think>", 27 = "</think>", 28, 29, 30: the three bytes of U+4F60;
// then "#".
class FakeTokenizer final : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text, Special special) const override {
    std::vector<int32_t> ids;
    while (!text.empty()) {
      if (special != Special::kNone && text.starts_with("</think>")) {
        ids.push_back(27);
        text.remove_prefix(8);
        continue;
      }
      const char c = text[0];
      ids.push_back(c == '\xE4' ? 28 : c == '\xBD' ? 29 : c == '\xA0' ? 30 : c >= 'a' && c <= 'z' ? c - 'a' : 31);
      text.remove_prefix(1);
    }
    return ids;
  }
  std::string decode(std::span<const int32_t> ids) const override {
    std::string out;
    for (int32_t id : ids) out += piece(id);
    return out;
  }
  std::string_view piece(int32_t id) const override {
    static constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz", kBytes = "\xE4\xBD\xA0";
    if (id < 0 || id >= kVocabulary) return "";
    if (id < 26) return kLetters.substr(static_cast<std::size_t>(id), 1);
    if (id == 26) return "<think>";
    if (id == 27) return "</think>";
    if (id < 31) return kBytes.substr(static_cast<std::size_t>(id - 28), 1);
    return "#";
  }
  int32_t vocab_size() const override { return kVocabulary; }
  std::optional<int32_t> find(std::string_view) const override { return std::nullopt; }
  bool is_control(int32_t) const override { return false; }
  std::optional<int32_t> bos() const override { return std::nullopt; }
  std::optional<int32_t> eos() const override { return std::nullopt; }
  bool adds_bos() const override { return false; }
  std::string_view kind() const override { return "fake"; }
  std::vector<int64_t> cuts(std::string_view) const override { return {}; }
};

struct Fake {
  std::unique_ptr<Engine> engine;
  FakeModel* model = nullptr;
};

inline Fake fake_engine(bool latent, EngineOptions options, EngineParts parts = {}, int64_t context = 512,
                        int microseconds = 0, FakeTraits traits = {}) {
  auto model = std::make_unique<FakeModel>(latent, context, microseconds, traits);
  Fake fake{nullptr, model.get()};
  parts.model = std::move(model);
  auto made = make_engine(std::move(parts), std::move(options));
  if (made.ok()) fake.engine = std::move(made).value();
  return fake;
}

struct Collected {
  std::vector<int32_t> ids;
  std::vector<uint8_t> thought;
  std::string text, finish_reason;
  std::vector<TokenLogprob> logprobs;
  std::vector<std::vector<TokenLogprob>> top;
  std::optional<Error> error;
  Usage usage;
  uint64_t seed = 0;
};

inline Collected collect(Stream& stream) {
  Collected all;
  for (Event event; stream.next(event);) {
    all.ids.insert(all.ids.end(), event.ids.begin(), event.ids.end());
    all.thought.insert(all.thought.end(), event.thought.begin(), event.thought.end());
    all.text += event.text;
    all.logprobs.insert(all.logprobs.end(), event.logprobs.begin(), event.logprobs.end());
    all.top.insert(all.top.end(), event.top.begin(), event.top.end());
    if (event.finish_reason.empty()) continue;
    all.finish_reason = event.finish_reason;
    all.error = event.error;
    all.usage = event.usage;
    all.seed = event.seed;
  }
  return all;
}

// The engine's numbers once nothing runs (an answer's last event comes a little before).
inline Engine::Stats when_idle(const Engine& engine) {
  Engine::Stats stats = engine.stats();
  for (int i = 0; i < 500 && stats.running + stats.waiting > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    stats = engine.stats();
  }
  return stats;
}

inline constexpr int64_t kFakePage = 2 * kPageTokens * 2 * 4;  // bytes of FakeModel's pages

}  // namespace sonde::test
