// The forward pass, to read aloud. Block and its parts: layers.h.
#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/huge_pages.h"
#include "files/gguf_config.h"
#include "files/map.h"
#include "model/families/family.h"
#include "model/layers.h"
#include "model/model.h"
#include "model/mtp.h"

namespace sonde {
namespace {

class Transformer final : public Model {
 public:
  const ModelConfig& config() const override { return config_; }
  bool has_mtp() const override { return mtp_ != nullptr; }
  Work work_per_token() const override { return work_; }
  Choice choice_per_token() const override { return choice_; }
  int64_t parameters() const override { return parameters_; }
  int64_t active_parameters() const override { return active_parameters_; }

  KvLayout kv_layout() const override {
    const int64_t record = config_.is_mla() ? config_.kv_lora_rank + config_.qk_rope_head_dim
                                            : 2 * config_.num_key_value_heads * config_.head_dim;
    return {config_.num_hidden_layers + (mtp_ ? 1 : 0), record, kv_type(exact_)};
  }

  int64_t owned_bytes() const override {
    int64_t bytes = (mtp_ ? mtp_->block.attention->owned_bytes() : 0);
    if (packed_ && packed_->file().empty()) bytes += packed_->bytes();
    for (const Block& block : blocks_) bytes += block.attention->owned_bytes();
    return bytes;
  }

  int64_t mapped_bytes() const override {
    return mapped_bytes_ + (packed_ && !packed_->file().empty() ? packed_->bytes() : 0);
  }
  bool has_two_forms() const override { return config_.is_mla() || two_forms_; }
  Packed packed() const override {
    return packed_ ? Packed{packed_->bytes(), packed_->matrices(), packed_->made(), packed_->file()} : Packed{};
  }

  bool move_weights(ThreadPool& pool) override { return move_.next(pool); }

  bool forward(ThreadPool& pool, std::span<const SequenceChunk> chunks, ForwardResult& out, Probe* probe,
               const StepWatch& watch) override {
    Step step(pool, chunks, kv_layout(), rope_, rope_dim(), tables_);
    const int64_t hidden = config_.hidden_size;
    float* h = scratch_.get(hidden_, step.rows * hidden);
    for (std::size_t c = 0; c < chunks.size(); ++c)
      embed(step, embed_tokens_, chunks[c].tokens, h + step.first_row[c] * hidden);
    if (probe) probe->hidden.clear(), probe->experts.assign(blocks_.size(), {}), keep(*probe, h, step.rows);

    for (std::size_t layer = 0; layer < blocks_.size(); ++layer) {
      if (watch && !watch(int64_t(layer), int64_t(blocks_.size()))) return false;
      step.enter_layer(int64_t(layer));
      if (probe) step.experts = &probe->experts[layer];
      run_block(blocks_[layer], step, h);
      if (probe) keep(*probe, h, step.rows);
    }
    out.experts = step.experts_read;

    // Only the rows that were asked for go through the final norm and the head.
    std::vector<int64_t>& wanted = wanted_;
    wanted.clear(), factors_.clear();
    for (std::size_t c = 0; c < chunks.size(); ++c) {
      const int64_t n = int64_t(chunks[c].tokens.size()), first = step.first_row[c];
      if (chunks[c].logits == Logits::kLast) wanted.push_back(first + n - 1);
      if (chunks[c].logits == Logits::kAll)
        for (int64_t i = 0; i < n; ++i) wanted.push_back(first + i);
      factors_.resize(wanted.size(), chunks[c].summary_factor);
    }
    const int64_t rows = int64_t(wanted.size());
    out.final.resize(std::size_t(rows * hidden));
    for (int64_t r = 0; r < rows; ++r)
      step.norm(h + wanted[std::size_t(r)] * hidden, hidden, norm_, eps(), out.final.data() + r * hidden, hidden, 1);
    head(step, lm_head_, rows, out);

    int64_t states = 0;
    for (const SequenceChunk& chunk : chunks) states += chunk.states ? int64_t(chunk.tokens.size()) : 0;
    out.states.resize(std::size_t(states * hidden));
    float* to = out.states.data();
    for (std::size_t c = 0; c < chunks.size(); ++c) {
      if (!chunks[c].states) continue;
      const auto n = int64_t(chunks[c].tokens.size());
      step.norm(h + step.first_row[c] * hidden, hidden, norm_, eps(), to, hidden, n), to += n * hidden;
    }
    return true;
  }

  void forward_mtp(ThreadPool& pool, const SequenceChunk& next, std::span<const float> final,
                   ForwardResult& out) override {
    Step step(pool, std::span(&next, 1), kv_layout(), rope_, rope_dim(), tables_);
    step.enter_layer(config_.num_hidden_layers);
    const int64_t rows = step.rows, hidden = config_.hidden_size;
    float* x = scratch_.get(hidden_, rows * hidden);
    float* joined = scratch_.get(scratch_.a, rows * 2 * hidden);
    embed(step, mtp_->embed_tokens, next.tokens, x);
    step.norm(x, hidden, mtp_->enorm, eps(), joined, 2 * hidden, rows);
    step.norm(final.data(), hidden, mtp_->hnorm, eps(), joined + hidden, 2 * hidden, rows);
    step.multiply("eh_proj", {mtp_->eh_proj, joined, rows, 2 * hidden, x, hidden});
    run_block(mtp_->block, step, x);
    const int64_t wanted = next.logits == Logits::kAll ? rows : next.logits == Logits::kLast ? 1 : 0;
    out.final.resize(std::size_t(wanted * hidden));
    if (wanted > 0)
      step.norm(x + (rows - wanted) * hidden, hidden, mtp_->shared_head_norm, eps(), out.final.data(), hidden, wanted);
    factors_.assign(std::size_t(wanted), next.summary_factor);
    head(step, mtp_->head, wanted, out);
  }

  Status load(std::shared_ptr<const Checkpoint> checkpoint, const ModelOptions& options) {
    checkpoint_ = std::move(checkpoint);
    exact_ = options.exact;
    SONDE_TRY(config_, read_model_config(*checkpoint_));
    const Family* family = find_family(config_.model_type);
    std::vector<float> rope_factors;
    if (checkpoint_->find("rope_freqs.weight")) {
      SONDE_TRY(rope_factors, checkpoint_->vector("rope_freqs.weight", rope_dim() / 2));
    } else if (const auto given = checkpoint_->config().find(kRopeFactorsWord); given != checkpoint_->config().end()) {
      // Converted from a GGUF file: the factors as stored there instead of the words beside them.
      for (const auto& factor : *given) rope_factors.push_back(factor.is_number() ? factor.get<float>() : 0);
      if (int64_t(rope_factors.size()) != rope_dim() / 2 ||
          std::any_of(rope_factors.begin(), rope_factors.end(), [](float f) { return !(f > 0 && f < 1e9F); }))
        return Error{Code::kCorrupt,
                     "bad value of sonde_rope_factors",
                     checkpoint_->path(),
                     std::to_string(rope_dim() / 2) + " factors",
                     given->dump().substr(0, 80),
                     ""};
      config_.rope_scaling = {};
    }
    rope_ = Rope::make(config_, rope_dim(), rope_factors);

    const std::string_view set = kernel_set_notice();
    if (options.notice && !set.empty()) options.notice(std::string(set));
    const auto load = [&](PackedWeights* packed) { return load_weights(*family, packed, options); };
    if (options.exact) {
      SONDE_CHECK(load(nullptr));
    } else {
      SONDE_TRY(packed_, load_packed(*checkpoint_, options, load));
      if (packed_) in_place_.push_back(packed_->mapped());
      move_ = HugePageMove(std::move(in_place_));
    }
    if (options.progress) options.progress(checkpoint_->file_bytes(), checkpoint_->file_bytes());
    return {};
  }

 private:
  // Anew each time.
  Status load_weights(const Family& family, PackedWeights* packed, const ModelOptions& options) {
    blocks_.clear(), mtp_.reset();
    Loader in(*checkpoint_, config_, packed, options);
    const int64_t vocab = config_.vocab_size, hidden = config_.hidden_size;
    SONDE_TRY(embed_tokens_, in.table("model.embed_tokens.weight", vocab, hidden));
    // Files may leave out a head that equals the embedding, whatever their config says.
    const bool tied = config_.tie_word_embeddings || !in.has("lm_head.weight");
    if (tied) {
      lm_head_ = embed_tokens_;
      SONDE_CHECK(in.pack(lm_head_));
      in.bytes_per_token += double(lm_head_.bytes()), in.weights_per_token += double(vocab) * double(hidden);
      in.active_parameters += double(vocab) * double(hidden);
    } else {
      SONDE_TRY(lm_head_, in.matrix("lm_head.weight", vocab, hidden));
    }
    SONDE_TRY(norm_, in.vector("model.norm.weight", hidden));
    for (int64_t layer = 0; layer < config_.num_hidden_layers; ++layer) {
      SONDE_TRY(Block block, family.load_block(in, layer, rope_));
      blocks_.push_back(std::move(block));
    }
    work_ = {int64_t(in.bytes_per_token), int64_t(in.weights_per_token)};
    choice_ = {in.chosen_experts, int64_t(in.chosen_bytes)};
    parameters_ = int64_t(in.parameters);
    active_parameters_ = std::min(parameters_, int64_t(in.active_parameters));  // a tied row counts once
    // transformers drops an announced MTP layer when it saves: then it is simply absent.
    if (config_.num_nextn_predict_layers > 0 && in.has(layer_name(config_.num_hidden_layers, "eh_proj.weight"))) {
      SONDE_TRY(mtp_, MtpLayer::load(in, family, rope_, embed_tokens_, lm_head_));
    }
    mapped_bytes_ = in.mapped_bytes, two_forms_ = in.two_forms, in_place_ = std::move(in.in_place);
    advise({embed_tokens_.data, std::size_t(embed_tokens_.bytes())}, Advice::kWillNeed);  // else every new token waits for the disk
    return {};
  }

  int64_t rope_dim() const { return config_.is_mla() ? config_.qk_rope_head_dim : config_.head_dim; }
  double eps() const { return config_.rms_norm_eps; }

  void embed(const Step& step, const Matrix& table, std::span<const int32_t> tokens, float* h) const {
    const auto scope = step.timed("embedding");
    if (Profile* p = step.pool.profile()) p->work(double(table.row_bytes) * double(tokens.size()), 0, Profile::kF32);
    for (std::size_t i = 0; i < tokens.size(); ++i)
      unpack_rows(table, tokens[i], 1, h + int64_t(i) * config_.hidden_size);
  }

  // Logits of out.final [rows, hidden_size]. Each thread summarises its part of them while the others still multiply.
  void head(const Step& step, const Matrix& weight, int64_t rows, ForwardResult& out) const {
    const int64_t vocab = config_.vocab_size;
    out.logits.resize(std::size_t(rows * vocab));
    out.most.resize(std::size_t(rows * summary_blocks(vocab))), out.total.resize(out.most.size());
    if (rows == 0) return;
    const Summaries summaries{factors_.data(), out.most.data(), out.total.data()};
    step.multiply("head", {.w = weight, .x = out.final.data(), .m = rows, .ldx = config_.hidden_size, .y = out.logits.data(),
                           .ldy = vocab, .summaries = &summaries});
  }

  void run_block(const Block& block, Step& step, float* h) {
    const int64_t hidden = config_.hidden_size, rows = step.rows;
    float* x = scratch_.get(scratch_.x, rows * hidden);
    float* y = scratch_.get(scratch_.y, rows * hidden);
    const auto add = [&] {
      const auto scope = step.timed("residual sums");
      step.pool.split(rows * hidden, 4096,
                      [&](int64_t begin, int64_t end, int) { add_scaled(h + begin, y + begin, 1.0f, end - begin); });
    };
    step.norm(h, hidden, block.input_layernorm, eps(), x, hidden, rows);
    block.attention->forward(step, scratch_, x, y);
    add();
    step.norm(h, hidden, block.post_attention_layernorm, eps(), x, hidden, rows);
    block.feed_forward->forward(step, scratch_, x, y);
    add();
  }

  void keep(Probe& probe, const float* h, int64_t rows) const {
    probe.hidden.emplace_back(h, h + rows * config_.hidden_size);
  }

  std::shared_ptr<const Checkpoint> checkpoint_;  // owns the mapped weights
  std::unique_ptr<PackedWeights> packed_;         // null: exact
  std::vector<std::span<const std::byte>> in_place_;  // until all is loaded
  HugePageMove move_;
  ModelConfig config_;
  bool exact_ = true;
  Rope rope_;
  Matrix embed_tokens_, lm_head_;
  std::vector<float> norm_;
  std::vector<Block> blocks_;
  std::unique_ptr<MtpLayer> mtp_;
  Work work_;
  Choice choice_;
  int64_t parameters_ = 0, active_parameters_ = 0, mapped_bytes_ = 0;
  bool two_forms_ = false;
  AlignedVector<float> hidden_;
  std::vector<int64_t> wanted_;  // rows whose logits are asked for
  std::vector<float> factors_;   // of their summaries
  StepTables tables_;
  Scratch scratch_;
};

}  // namespace

Result<std::unique_ptr<Model>> Model::load(std::shared_ptr<const Checkpoint> checkpoint, const ModelOptions& options) {
  auto model = std::make_unique<Transformer>();
  const std::string path = checkpoint->path();
  if (Status loaded = model->load(std::move(checkpoint), options); !loaded.ok()) {
    Error error = std::move(loaded).error();
    return error.where.find(path) == std::string::npos ? std::move(error).in(path) : std::move(error);
  }
  return std::unique_ptr<Model>(std::move(model));
}

}  // namespace sonde
