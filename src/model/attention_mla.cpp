// Multi-head latent attention (DeepSeek-V2, section 2.1). A record is [latent c: kv_lora_rank | k_pe:
// qk_rope_head_dim].
//
// expanded (prefill): k_nope_h = K_h c, v_h = V_h c for every cached token, then ordinary attention per head.
// absorbed (decode):  q'_h = K_h^T q_nope_h, then attention of one key head of width rank + rope whose value is c
// itself,
//                     o_h = V_h z_h. K_h [nope, rank] and V_h [v, rank] are the two parts of head h in kv_b_proj.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/layers.h"

namespace sonde {
namespace {

// Expanded keys and values of one group of heads may take so many floats (128 MiB); more heads go in turns.
constexpr int64_t kExpandedFloats = int64_t{32} << 20;
// The fast path expands so many tokens in F32 before they are stored in BF16.
constexpr int64_t kExpandedBlock = 512;

class LatentAttention final : public Attention {
 public:
  LatentAttention(const ModelConfig& config, double score_factor)
      : c_(config),
        scale_(float(score_factor / std::sqrt(double(config.qk_nope_head_dim + config.qk_rope_head_dim)))) {}

  Matrix q_a_proj, q_b_proj, q_proj;  // the first two with a query LoRA, else the third
  Matrix kv_a_proj, o_proj;
  std::vector<float> q_a_layernorm, kv_a_layernorm;
  std::vector<Matrix> key, key_transposed, value;  // per head: K_h [nope, rank], K_h^T [rank, nope], V_h [v, rank]
  std::vector<AlignedVector<float>> owned;         // what had to be unpacked or turned round

  int64_t owned_bytes() const override {
    int64_t bytes = 0;
    for (const auto& part : owned) bytes += int64_t(part.size() * sizeof(float));
    return bytes;
  }

  void forward(Step& step, Scratch& scratch, const float* x, float* y) const override {
    const int64_t rows = step.rows, heads = c_.num_attention_heads, hidden = c_.hidden_size;
    const int64_t nope = c_.qk_nope_head_dim, rope = c_.qk_rope_head_dim, rank = c_.kv_lora_rank;
    const int64_t q_width = heads * (nope + rope), lora = c_.q_lora_rank;
    float* q = scratch.get(scratch.a, rows * q_width);
    float* latent = scratch.get(scratch.b, rows * step.record);
    float* out = scratch.get(scratch.c, rows * heads * c_.v_head_dim);
    if (lora > 0) {
      float* c_q = scratch.get(scratch.d, rows * lora);
      const Product products[] = {step.projection(q_a_proj, x, hidden, c_q, lora),
                                  step.projection(kv_a_proj, x, hidden, latent, step.record)};
      step.multiply("q_a, latent", products);
      step.norm(c_q, lora, q_a_layernorm, c_.rms_norm_eps, c_q, lora, rows);
      step.multiply("q_b", step.projection(q_b_proj, c_q, lora, q, q_width));
    } else {
      const Product products[] = {step.projection(q_proj, x, hidden, q, q_width),
                                  step.projection(kv_a_proj, x, hidden, latent, step.record)};
      step.multiply("q, latent", products);
    }
    // The latent is cached after its norm, k_pe after its rotation.
    step.norm(latent, step.record, kv_a_layernorm, c_.rms_norm_eps, latent, step.record, rows);
    {
      const auto scope = step.timed("rotate");
      each_row(step.pool, rows, [&](int64_t r) {
        step.rotate(r, latent + r * step.record + rank, /*halves=*/false);
        for (int64_t h = 0; h < heads; ++h) step.rotate(r, q + r * q_width + h * (nope + rope) + nope, /*halves=*/false);
      });
    }
    step.write_records(latent);

    absorbed(step, scratch, q, out);
    for (std::size_t chunk = 0; chunk < step.chunks.size(); ++chunk)
      if (!step.chunks[chunk].absorbed) expanded(step, scratch, chunk, q, out);
    step.multiply("o", step.projection(o_proj, out, heads * c_.v_head_dim, y, hidden));
  }

 private:
  // All chunks that ask for the absorbed form, together.
  void absorbed(Step& step, Scratch& scratch, const float* q, float* out) const {
    const int64_t heads = c_.num_attention_heads, nope = c_.qk_nope_head_dim, rope = c_.qk_rope_head_dim;
    const int64_t rank = c_.kv_lora_rank, width = rank + rope, v = c_.v_head_dim;
    std::vector<int64_t>& rows = scratch.rows;  // of the step
    std::vector<AttentionRow>& attend = scratch.attend;
    rows.clear(), attend.clear();
    for (std::size_t chunk = 0; chunk < step.chunks.size(); ++chunk) {
      if (!step.chunks[chunk].absorbed) continue;
      for (int64_t i = 0; i < int64_t(step.chunks[chunk].tokens.size()); ++i) {
        rows.push_back(step.first_row[chunk] + i);
        attend.push_back({nullptr, nullptr, step.pages[chunk].data(), step.chunks[chunk].start + i + 1});
      }
    }
    const int64_t n = int64_t(rows.size());
    if (n == 0) return;
    float* queries = scratch.get(scratch.d, n * heads * width);
    float* z = scratch.get(scratch.e, n * heads * rank);
    float* q_nope = scratch.get(scratch.f, n * heads * nope);
    each_row(step.pool, n, [&](int64_t r) {
      const float* from = q + rows[std::size_t(r)] * heads * (nope + rope);
      for (int64_t h = 0; h < heads; ++h) {
        std::memcpy(q_nope + (r * heads + h) * nope, from + h * (nope + rope), std::size_t(nope) * sizeof(float));
        std::memcpy(queries + (r * heads + h) * width + rank, from + h * (nope + rope) + nope,
                    std::size_t(rope) * sizeof(float));
      }
      attend[std::size_t(r)].q = queries + r * heads * width;
      attend[std::size_t(r)].out = z + r * heads * rank;
    });
    std::vector<Product>& products = scratch.products;
    products.clear();
    for (int64_t h = 0; h < heads; ++h)
      products.push_back(
          {key_transposed[std::size_t(h)], q_nope + h * nope, n, heads * nope, queries + h * width, heads * width});
    step.multiply("keys of latents", products);
    const AttentionShape shape{.heads = heads,
                               .key_heads = 1,
                               .key_dim = width,
                               .value_dim = rank,
                               .key_offset = 0,
                               .value_offset = 0,
                               .key_stride = width,
                               .value_stride = width,
                               .record = step.record,
                               .page_tokens = kPageTokens,
                               .scale = scale_,
                               .type = step.type};
    step.attend(shape, attend, width);
    float* o = scratch.get(scratch.f, n * heads * v);
    products.clear();
    for (int64_t h = 0; h < heads; ++h)
      products.push_back({value[std::size_t(h)], z + h * rank, n, heads * rank, o + h * v, heads * v});
    step.multiply("values of latents", products);
    each_row(step.pool, n, [&](int64_t r) {
      std::memcpy(out + rows[std::size_t(r)] * heads * v, o + r * heads * v, std::size_t(heads * v) * sizeof(float));
    });
  }

  // One chunk; the keys and values of all its positions are made again from the latents, a block of tokens at a time.
  // Head h of a group: [length][nope | rope | v] from h * length records on.
  void expanded(Step& step, Scratch& scratch, std::size_t chunk, const float* q, float* out) const {
    const int64_t heads = c_.num_attention_heads, nope = c_.qk_nope_head_dim, rope = c_.qk_rope_head_dim;
    const int64_t rank = c_.kv_lora_rank, v = c_.v_head_dim, key_width = nope + rope, record = key_width + v;
    const int64_t tokens = int64_t(step.chunks[chunk].tokens.size()), length = step.chunks[chunk].start + tokens;
    const int64_t group = std::clamp(kExpandedFloats / (length * record), int64_t{1}, heads);
    const int64_t most = step.exact() ? length : std::min(length, kExpandedBlock);
    float* latents = scratch.get(scratch.d, most * step.record);

    for (int64_t first = 0; first < heads; first += group) {
      const int64_t count = std::min(group, heads - first);
      float* floats = scratch.get(scratch.e, most * count * record);
      std::byte* cache = reinterpret_cast<std::byte*>(floats);
      if (!step.exact()) {
        const std::size_t bytes = std::size_t(length * count * record * step.type->bytes);
        if (scratch.bytes.size() < bytes) scratch.bytes.resize(bytes);
        cache = scratch.bytes.data();
      }
      for (int64_t start = 0; start < length; start += most) {
        const int64_t n = std::min(most, length - start);
        if (length > most || first == 0) step.read_records(chunk, start, n, latents);
        std::vector<Product>& products = scratch.products;
        products.clear();
        const auto expand = [&](const Matrix& w, float* to) {
          products.push_back({.w = w, .x = latents, .m = n, .ldx = step.record, .y = to, .ldy = record, .prompt = n, .fine = true});
        };
        for (int64_t h = 0; h < count; ++h) {
          float* head = floats + h * n * record;
          expand(key[std::size_t(first + h)], head), expand(value[std::size_t(first + h)], head + key_width);
        }
        step.multiply("keys, values of latents", products);
        const auto scope = step.timed("expanded cache");
        each_row(step.pool, count * n, [&](int64_t i) {
          float* head = floats + i * record;
          std::memcpy(head + nope, latents + i % n * step.record + rank, std::size_t(rope) * sizeof(float));
          if (!step.exact()) to_bf16(head, record, cache + (i / n * length + start + i % n) * record * step.type->bytes);
        });
      }

      std::vector<AttentionRow>& attend = scratch.attend;
      attend.clear();
      const std::byte* const page = cache;
      for (int64_t i = 0; i < tokens; ++i) {
        const int64_t row = step.first_row[chunk] + i;
        attend.push_back({q + (row * heads + first) * key_width, out + (row * heads + first) * v, &page,
                          step.chunks[chunk].start + i + 1});
      }
      const AttentionShape shape{.heads = count,
                                 .key_heads = count,
                                 .key_dim = key_width,
                                 .value_dim = v,
                                 .key_offset = 0,
                                 .value_offset = key_width,
                                 .key_stride = length * record,
                                 .value_stride = length * record,
                                 .record = record,
                                 .page_tokens = length,
                                 .scale = scale_,
                                 .type = step.type};
      step.attend(shape, attend, count * record);
    }
  }

  ModelConfig c_;
  float scale_;
};

void transpose(const float* from, int64_t rows, int64_t cols, float* to) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) to[c * rows + r] = from[r * cols + c];
}

// A stack [heads, rows, cols] as one matrix [heads * rows, cols].
Result<Matrix> stack(const Loader& in, const std::string& name, int64_t heads, int64_t rows, int64_t cols) {
  const Tensor* t = in.checkpoint().find(name);
  if (!t) return Error{Code::kNotFound, "missing tensor", name, "", "", ""};
  if (t->shape != std::vector<int64_t>{heads, rows, cols})
    return Error{Code::kInvalid,
                 "tensor has the wrong shape",
                 name,
                 "[" + std::to_string(heads) + ", " + std::to_string(rows) + ", " + std::to_string(cols) + "]",
                 std::to_string(t->dim(0)) + " x " + std::to_string(t->dim(1)) + " x " + std::to_string(t->dim(2)),
                 ""};
  if (!t->type->unpack || cols % t->type->block)
    return Error{Code::kInvalid, "tensor cannot be a weight", name, "", std::string(t->type->name), ""};
  Matrix m;
  m.type = t->type, m.data = t->bytes.data(), m.rows = heads * rows, m.cols = cols,
  m.row_bytes = t->type->row_bytes(cols);
  return m;
}

}  // namespace

Result<std::unique_ptr<Attention>> load_mla(Loader& in, int64_t layer, double score_factor) {
  const ModelConfig& c = in.config();
  auto mla = std::make_unique<LatentAttention>(c, score_factor);
  const auto name = [&](const char* rest) { return layer_name(layer, rest); };
  const int64_t heads = c.num_attention_heads, nope = c.qk_nope_head_dim, rope = c.qk_rope_head_dim, v = c.v_head_dim,
                rank = c.kv_lora_rank;
  if (c.q_lora_rank > 0) {
    SONDE_TRY(mla->q_a_proj, in.matrix(name("self_attn.q_a_proj.weight"), c.q_lora_rank, c.hidden_size));
    SONDE_TRY(mla->q_a_layernorm, in.vector(name("self_attn.q_a_layernorm.weight"), c.q_lora_rank));
    SONDE_TRY(mla->q_b_proj, in.matrix(name("self_attn.q_b_proj.weight"), heads * (nope + rope), c.q_lora_rank));
  } else {
    SONDE_TRY(mla->q_proj, in.matrix(name("self_attn.q_proj.weight"), heads * (nope + rope), c.hidden_size));
  }
  SONDE_TRY(mla->kv_a_proj, in.matrix(name("self_attn.kv_a_proj_with_mqa.weight"), rank + rope, c.hidden_size));
  SONDE_TRY(mla->kv_a_layernorm, in.vector(name("self_attn.kv_a_layernorm.weight"), rank));
  SONDE_TRY(mla->o_proj, in.matrix(name("self_attn.o_proj.weight"), c.hidden_size, heads * v));

  std::vector<float> k(std::size_t(nope * rank));
  if (in.has(name("self_attn.kv_b_proj.weight"))) {
    SONDE_TRY(Matrix joined, in.matrix(name("self_attn.kv_b_proj.weight"), heads * (nope + v), rank));
    const bool unpack_all = joined.scales != nullptr;  // scale blocks need not end where heads do
    AlignedVector<float> whole;
    const auto unpacked = [&] {
      if (whole.empty()) {
        whole.resize(std::size_t((nope + v) * heads * rank));
        unpack_rows(joined, 0, joined.rows, whole.data());
      }
      return static_cast<const float*>(whole.data());
    };
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t first = h * (nope + v);
      if (unpack_all) {
        const auto rows = [&](int64_t from, int64_t count) {
          return [&unpacked, from, count, rank](float* to) {
            std::memcpy(to, unpacked() + from * rank, std::size_t(count * rank) * sizeof(float));
          };
        };
        SONDE_TRY(Matrix key, in.values(nope, rank, rows(first, nope), mla->owned));
        SONDE_TRY(Matrix value, in.values(v, rank, rows(first + nope, v), mla->owned));
        mla->key.push_back(key), mla->value.push_back(value);
      } else {
        mla->key.push_back(joined.slice(first, nope));
        mla->value.push_back(joined.slice(first + nope, v));
      }
      const auto turned = [&](float* to) {
        if (!unpack_all) unpack_rows(mla->key.back(), 0, nope, k.data());
        transpose(unpack_all ? unpacked() + first * rank : k.data(), nope, rank, to);
      };
      SONDE_TRY(Matrix transposed, in.values(rank, nope, turned, mla->owned, joined.type->is_quantised()));
      mla->key_transposed.push_back(transposed);
    }
  } else {
    SONDE_TRY(Matrix k_b, stack(in, name("self_attn.k_b_proj.weight"), heads, rank, nope));
    SONDE_TRY(Matrix v_b, stack(in, name("self_attn.v_b_proj.weight"), heads, v, rank));
    SONDE_CHECK(in.pack(k_b));
    SONDE_CHECK(in.pack(v_b));
    for (int64_t h = 0; h < heads; ++h) {
      mla->key_transposed.push_back(k_b.slice(h * rank, rank));
      mla->value.push_back(v_b.slice(h * v, v));
      const auto turned = [&](float* to) {
        unpack_rows(mla->key_transposed.back(), 0, rank, k.data());
        transpose(k.data(), rank, nope, to);
      };
      SONDE_TRY(Matrix key, in.values(nope, rank, turned, mla->owned));
      mla->key.push_back(key);
    }
    const int64_t key_floats = heads * nope * rank, value_floats = heads * v * rank;
    in.bytes_per_token += double(k_b.bytes() + v_b.bytes());
    in.weights_per_token += double(key_floats + value_floats);
    in.parameters += double(key_floats + value_floats), in.active_parameters += double(key_floats + value_floats);
  }
  return std::unique_ptr<Attention>(std::move(mla));
}

}  // namespace sonde
