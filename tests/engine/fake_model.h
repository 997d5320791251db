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

class FakeModel final : public Model {
 public:
  explicit FakeModel(bool latent, int64_t context = 512, int microseconds = 0) : microseconds_(microseconds) {
    config_.model_type = "fake";
    config_.vocab_size = kVocabulary;
    config_.hidden_size = 8;
    config_.num_hidden_layers = 2;
    config_.num_attention_heads = config_.num_key_value_heads = 1;
    config_.head_dim = 1;
    config_.kv_lora_rank = latent ? 2 : 0;
    config_.max_position_embeddings = context;
  }

  const ModelConfig& config() const override { return config_; }
  KvLayout kv_layout() const override { return {.layers = 2, .record = 2}; }
  bool has_mtp() const override { return false; }
  Work work_per_token() const override { return {100, 100}; }
  int64_t parameters() const override { return 100; }
  int64_t active_parameters() const override { return 100; }
  int64_t owned_bytes() const override { return 0; }
  int64_t mapped_bytes() const override { return 0; }

  void forward(ThreadPool& pool, std::span<const SequenceChunk> chunks, ForwardResult& out, Probe*) override {
    if (microseconds_ > 0) std::this_thread::sleep_for(std::chrono::microseconds(microseconds_));
    std::vector<std::size_t> wanted;
    for (std::size_t c = 0; c < chunks.size(); ++c) {
      if (chunks[c].logits != Logits::kNone) wanted.push_back(c);
    }
    out.logits.assign(wanted.size() * kVocabulary, 0);
    pool.share(static_cast<int64_t>(chunks.size()), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t c = begin; c < end; ++c) write(chunks[static_cast<std::size_t>(c)]);
    });
    pool.share(static_cast<int64_t>(wanted.size()), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t w = begin; w < end; ++w)
        read(chunks[wanted[static_cast<std::size_t>(w)]], &out.logits[w * kVocabulary]);
    });
    ++steps;
    rows += static_cast<int64_t>(chunks.size());
    if (fail.exchange(false)) throw std::runtime_error("a failure that was asked for");
  }
  void forward_mtp(ThreadPool&, std::span<const int32_t>, std::span<const float>, int64_t, std::span<std::byte* const>,
                   bool, AlignedVector<float>&) override {}

  std::atomic<int64_t> steps = 0, rows = 0;
  std::atomic<bool> fail = false;
  std::atomic<bool> misaligned = false;  // a prefill chunk began or ended where it must not

 private:
  void write(const SequenceChunk& chunk) {
    if (!chunk.absorbed && chunk.start % kPageTokens != 0) misaligned = true;
    for (std::size_t i = 0; i < chunk.tokens.size(); ++i) {
      const int64_t position = chunk.start + static_cast<int64_t>(i);
      auto* page = reinterpret_cast<float*>(chunk.pages[static_cast<std::size_t>(position / kPageTokens)]);
      const int64_t slot = position % kPageTokens;
      for (int64_t layer = 0; layer < 2; ++layer) {
        float* record = page + (layer * kPageTokens + slot) * 2;
        record[0] = record_of(chunk.tokens[i], position, config_.is_mla() && chunk.absorbed);
        record[1] = chunk.tokens[i] == kPoison ? 1.f : 0.f;
      }
    }
  }
  static void read(const SequenceChunk& chunk, float* logits) {
    uint64_t state = 7;
    bool poisoned = false;
    const int64_t length = chunk.start + static_cast<int64_t>(chunk.tokens.size());
    for (int64_t position = 0; position < length; ++position) {
      const auto* page = reinterpret_cast<const float*>(chunk.pages[static_cast<std::size_t>(position / kPageTokens)]);
      for (int64_t layer = 0; layer < 2; ++layer) {
        const float* record = page + (layer * kPageTokens + position % kPageTokens) * 2;
        state = mix(state, static_cast<uint64_t>(record[0]));
        poisoned |= record[1] != 0;
      }
    }
    const auto values = logits_of(state);
    std::memcpy(logits, values.data(), values.size() * sizeof(float));
    if (poisoned) logits[17] = std::numeric_limits<float>::quiet_NaN();
  }

  ModelConfig config_;
  int microseconds_;
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
                        int microseconds = 0) {
  auto model = std::make_unique<FakeModel>(latent, context, microseconds);
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
