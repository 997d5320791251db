// Grouped-query attention over the paged cache. A record is [K: key heads x head_dim | V: key heads x head_dim]; the fast
// path keeps what a head reads together: a page is [K heads, V heads][kPageTokens][head_dim].
#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/layers.h"

namespace sonde {
namespace {

constexpr int64_t kSmall = 1 << 14;  // values below which a fork-join costs more than it saves

class GroupedQueryAttention final : public Attention {
 public:
  GroupedQueryAttention(const ModelConfig& config) : c_(config) {}

  Matrix q_proj, k_proj, v_proj, o_proj;
  std::vector<float> q_bias, k_bias, v_bias;  // empty: none
  std::vector<float> q_norm, k_norm;          // [head_dim]; empty: none

  void forward(Step& step, Scratch& scratch, const float* x, float* y) const override {
    const int64_t rows = step.rows, d = c_.head_dim, heads = c_.num_attention_heads, key_heads = c_.num_key_value_heads;
    float* q = scratch.get(scratch.a, rows * heads * d);
    float* kv = scratch.get(scratch.b, rows * step.record);
    float* out = scratch.get(scratch.c, rows * heads * d);
    const auto bias = [](const std::vector<float>& b) { return b.empty() ? nullptr : b.data(); };
    const Product products[] = {
        step.projection(q_proj, x, c_.hidden_size, q, heads * d, bias(q_bias)),
        step.projection(k_proj, x, c_.hidden_size, kv, step.record, bias(k_bias)),
        step.projection(v_proj, x, c_.hidden_size, kv + key_heads * d, step.record, bias(v_bias)),
    };
    step.multiply("q/k/v", products);

    {
      const auto scope = step.timed("rotate");
      const int64_t all = heads + key_heads;
      const auto part = [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t r = i / all, h = i % all;
          if (h < heads) prepare(step, r, q + (r * heads + h) * d, q_norm);
          else prepare(step, r, kv + r * step.record + (h - heads) * d, k_norm);
        }
      };
      if (rows * all * d < kSmall) part(0, rows * all, 0);
      else step.pool.split(rows * all, 1, part);
    }

    const bool apart = !step.exact();
    step.write_records(kv, apart ? 2 * key_heads : 1);
    std::vector<AttentionRow>& attend = scratch.attend;
    attend.clear();
    for (std::size_t chunk = 0; chunk < step.chunks.size(); ++chunk)
      for (int64_t i = 0; i < int64_t(step.chunks[chunk].tokens.size()); ++i) {
        const int64_t row = step.first_row[chunk] + i, position = step.chunks[chunk].start + i;
        attend.push_back({q + row * heads * d, out + row * heads * d, step.pages[chunk].data(), position + 1});
      }
    const AttentionShape shape{.heads = heads,
                               .key_heads = key_heads,
                               .key_dim = d,
                               .value_dim = d,
                               .key_offset = 0,
                               .value_offset = key_heads * d * (apart ? kPageTokens : 1),
                               .key_stride = d * (apart ? kPageTokens : 1),
                               .value_stride = d * (apart ? kPageTokens : 1),
                               .record = apart ? d : step.record,
                               .page_tokens = kPageTokens,
                               .scale = float(1.0 / std::sqrt(double(d))),
                               .type = step.type};
    step.attend(shape, attend, step.record);
    step.multiply("o", step.projection(o_proj, out, heads * d, y, c_.hidden_size));
  }

 private:
  // Norm (Qwen3), then rotary position, of one head vector.
  void prepare(const Step& step, int64_t row, float* head, const std::vector<float>& norm) const {
    const int64_t d = c_.head_dim;
    if (c_.rope_interleaved) {  // rows come as neighbouring pairs: put them back into halves
      float pairs[kMaxHead];
      std::memcpy(pairs, head, std::size_t(d) * sizeof(float));
      for (int64_t i = 0; i < d / 2; ++i) head[i] = pairs[2 * i], head[i + d / 2] = pairs[2 * i + 1];
    }
    if (!norm.empty()) rms_norm(head, norm.data(), float(c_.rms_norm_eps), head, d);
    step.rotate(row, head, /*halves=*/true);
  }

 public:
  static constexpr int64_t kMaxHead = 4096;

 private:
  ModelConfig c_;
};

}  // namespace

Result<std::unique_ptr<Attention>> load_gqa(Loader& in, int64_t layer, bool biases, bool head_norms) {
  const ModelConfig& c = in.config();
  if (c.head_dim > GroupedQueryAttention::kMaxHead)
    return Error{Code::kUnsupported,
                 "head_dim is too large",
                 "config.json",
                 std::to_string(GroupedQueryAttention::kMaxHead) + " at most",
                 std::to_string(c.head_dim),
                 ""};
  auto attention = std::make_unique<GroupedQueryAttention>(c);
  const auto name = [&](const char* rest) { return layer_name(layer, rest); };
  const int64_t q = c.num_attention_heads * c.head_dim, kv = c.num_key_value_heads * c.head_dim;
  SONDE_TRY(attention->q_proj, in.matrix(name("self_attn.q_proj.weight"), q, c.hidden_size));
  SONDE_TRY(attention->k_proj, in.matrix(name("self_attn.k_proj.weight"), kv, c.hidden_size));
  SONDE_TRY(attention->v_proj, in.matrix(name("self_attn.v_proj.weight"), kv, c.hidden_size));
  SONDE_TRY(attention->o_proj, in.matrix(name("self_attn.o_proj.weight"), c.hidden_size, q));
  if (biases) {
    SONDE_TRY(attention->q_bias, in.vector(name("self_attn.q_proj.bias"), q));
    SONDE_TRY(attention->k_bias, in.vector(name("self_attn.k_proj.bias"), kv));
    SONDE_TRY(attention->v_bias, in.vector(name("self_attn.v_proj.bias"), kv));
  }
  if (head_norms) {
    SONDE_TRY(attention->q_norm, in.vector(name("self_attn.q_norm.weight"), c.head_dim));
    SONDE_TRY(attention->k_norm, in.vector(name("self_attn.k_norm.weight"), c.head_dim));
  }
  return std::unique_ptr<Attention>(std::move(attention));
}

}  // namespace sonde
