// DeepSeekMoE: the gate picks experts per token; tokens are grouped by expert, so each expert's weights are read once
// a step.
#include <algorithm>
#include <limits>

#include "model/layers.h"

namespace sonde {
namespace {

// What the gate works with, of each thread that chooses.
struct GateScratch {
  std::vector<float> scores, pick, rest, groups;  // [experts], of groups [n_group]
  std::vector<int32_t> order;
};

class Gate {
 public:
  explicit Gate(const ModelConfig& config) : c_(config) {}
  std::vector<float>
      correction_bias;  // [experts]; empty: none. Moves the choice, never the weights (DeepSeek-V3, section 2.1.2)

  // logits [experts] -> the chosen experts, ascending. In F32, as the published gates.
  void choose(const float* logits, GateScratch& scratch, ExpertChoice* out) const {
    const int64_t n = c_.n_routed_experts, k = c_.num_experts_per_tok;
    auto& [scores, pick, rest, groups, order] = scratch;
    scores.assign(logits, logits + n);
    c_.scoring_func == "softmax" ? softmax(scores.data(), n) : sigmoid(scores.data(), n);
    pick = scores;
    if (!correction_bias.empty()) add_scaled(pick.data(), correction_bias.data(), 1.0f, n);
    order.resize(std::size_t(n));
    if (c_.topk_method != "greedy" && c_.n_group > 1) drop_groups(scratch);

    top_k(pick.data(), n, k, order.data());
    std::sort(order.begin(), order.begin() + k);
    double sum = 0;
    for (int64_t i = 0; i < k; ++i) sum += double(scores[std::size_t(order[std::size_t(i)])]);
    // V3 normalises and scales; V2's published gate does one or the other, and never normalises a single expert.
    const bool v3 = c_.topk_method == "noaux_tc";
    const double factor = c_.norm_topk_prob && (v3 || k > 1) ? (v3 ? c_.routed_scaling_factor : 1.0) / (sum + 1e-20)
                                                             : c_.routed_scaling_factor;
    for (int64_t i = 0; i < k; ++i) {
      const int32_t e = order[std::size_t(i)];
      out[i] = {e, float(double(scores[std::size_t(e)]) * factor)};
    }
  }

 private:
  // Experts outside the topk_group best groups get -infinity. A group counts by its best expert (V2) or its two best
  // (V3).
  void drop_groups(GateScratch& scratch) const {
    const int64_t count = c_.n_group, size = c_.n_routed_experts / count;
    const int64_t best = c_.topk_method == "noaux_tc" && size > 1 ? 2 : 1;
    auto& [scores, pick, rest, groups, order] = scratch;
    rest = pick, groups.assign(std::size_t(count), 0.0f);
    for (int64_t g = 0; g < count; ++g) {
      top_k(rest.data() + g * size, size, best, order.data());
      for (int64_t i = 0; i < best; ++i)
        groups[std::size_t(g)] += pick[std::size_t(g * size + order[std::size_t(i)])];
    }
    rest.assign(pick.size(), -std::numeric_limits<float>::infinity());
    top_k(groups.data(), count, c_.topk_group, order.data());
    for (int64_t i = 0; i < c_.topk_group; ++i) {
      const int64_t first = order[std::size_t(i)] * size;
      std::copy_n(pick.begin() + first, size, rest.begin() + first);
    }
    std::swap(pick, rest);
  }

  ModelConfig c_;
};

class MixtureOfExperts final : public FeedForward {
 public:
  explicit MixtureOfExperts(const ModelConfig& config) : gate_rule(config), c_(config) {}

  Matrix gate;
  Gate gate_rule;
  struct Expert {
    Matrix gate_proj, up_proj, down_proj;
  };
  std::vector<Expert> experts;
  Expert shared;  // width n_shared_experts * moe_intermediate_size; empty: none

  void forward(Step& step, Scratch& scratch, const float* x, float* y) const override {
    const int64_t rows = step.rows, hidden = c_.hidden_size, n = c_.n_routed_experts, k = c_.num_experts_per_tok;
    const int64_t width = c_.moe_intermediate_size, shared_width = shared.gate_proj ? shared.gate_proj.rows : 0;

    float* logits = scratch.get(scratch.a, rows * n);
    step.multiply("router", {gate, x, rows, hidden, logits, n});
    std::vector<ExpertChoice>& choices = scratch.choices;
    choices.resize(std::size_t(rows * k));
    {
      const auto scope = step.timed("choice of experts");
      each_row(step.pool, rows, [&](int64_t r) {
        thread_local GateScratch mine;
        gate_rule.choose(logits + r * n, mine, choices.data() + r * k);
      });
    }
    if (step.experts) {
      step.experts->clear();
      for (const ExpertChoice& choice : choices) step.experts->push_back(choice.expert);
    }

    // Slots sorted by expert: place[i] is the slot of choice i, and row_of[slot] the row that chose.
    std::vector<int64_t>&first = scratch.first, &next = scratch.next, &place = scratch.place;
    first.assign(std::size_t(n) + 1, 0), place.resize(choices.size());
    for (const ExpertChoice& choice : choices) ++first[std::size_t(choice.expert) + 1];
    for (std::size_t e = 0; e < std::size_t(n); ++e) first[e + 1] += first[e];
    next.assign(first.begin(), first.end() - 1);
    std::vector<int32_t>& row_of = scratch.slot_rows;
    row_of.resize(choices.size());
    for (std::size_t i = 0; i < choices.size(); ++i) {
      place[i] = next[std::size_t(choices[i].expert)]++;
      row_of[std::size_t(place[i])] = int32_t(int64_t(i) / k);
    }

    const int64_t slots = rows * k;
    float* gates = scratch.get(scratch.c, slots * width + rows * shared_width);
    float* outs = scratch.get(scratch.e, (slots + rows) * hidden);

    std::vector<Product>& products = scratch.products;
    products.clear();
    const auto each = [&](auto&& f) {
      for (int64_t e = 0; e < n; ++e)
        if (const int64_t m = first[std::size_t(e) + 1] - first[std::size_t(e)]; m > 0)
          f(experts[std::size_t(e)], first[std::size_t(e)], m);
    };
    each([&](const Expert&, int64_t, int64_t) { ++step.experts_read; });
    // Of an expert's slots, which are in the order of the rows.
    const auto prompts = [&](int64_t at, int64_t m) {
      const int32_t* const begin = row_of.data() + at;
      return begin + m - std::lower_bound(begin, begin + m, step.answers);
    };
    each([&](const Expert& e, int64_t at, int64_t m) {
      products.push_back({e.gate_proj, x, m, hidden, gates + at * width, width, nullptr, e.up_proj, row_of.data() + at,
                          prompts(at, m)});
    });
    if (shared_width)
      products.push_back(
          step.feed_forward(shared.gate_proj, x, hidden, gates + slots * width, shared_width, shared.up_proj));
    step.multiply(shared_width ? "experts, shared gate+up" : "experts gate+up", products);
    products.clear();
    each([&](const Expert& e, int64_t at, int64_t m) {
      products.push_back({.w = e.down_proj, .x = gates + at * width, .m = m, .ldx = width, .y = outs + at * hidden,
                          .ldy = hidden, .prompt = prompts(at, m)});
    });
    if (shared_width)
      products.push_back(step.feed_forward(shared.down_proj, gates + slots * width, shared_width, outs + slots * hidden, hidden));
    step.multiply(shared_width ? "experts, shared down" : "experts down", products);

    // y = sum of the chosen, in order of their number, then the shared one: the same bits whoever stands beside this
    // row.
    const auto scope = step.timed("sum of experts");
    step.pool.split(rows, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        float* to = y + r * hidden;
        std::fill(to, to + hidden, 0.0f);
        for (int64_t i = r * k; i < (r + 1) * k; ++i)
          add_scaled(to, outs + place[std::size_t(i)] * hidden, choices[std::size_t(i)].weight, hidden);
        if (shared_width) add_scaled(to, outs + (slots + r) * hidden, 1.0f, hidden);
      }
    });
  }

 private:
  ModelConfig c_;
};

}  // namespace

Result<std::unique_ptr<FeedForward>> load_moe(Loader& in, int64_t layer) {
  const ModelConfig& c = in.config();
  auto moe = std::make_unique<MixtureOfExperts>(c);
  const std::string at = layer_name(layer, "mlp.");
  SONDE_TRY(moe->gate, in.matrix(at + "gate.weight", c.n_routed_experts, c.hidden_size));
  moe->gate.by_pairs = false;  // the published code multiplies it in F32: a near tie must not turn
  if (c.topk_method == "noaux_tc" && in.has(at + "gate.e_score_correction_bias")) {
    SONDE_TRY(moe->gate_rule.correction_bias, in.vector(at + "gate.e_score_correction_bias", c.n_routed_experts));
  }
  const auto load = [&](MixtureOfExperts::Expert& e, const std::string& prefix, int64_t width, double share) -> Status {
    SONDE_TRY(e.gate_proj, in.matrix(prefix + "gate_proj.weight", width, c.hidden_size, share));
    SONDE_TRY(e.up_proj, in.matrix(prefix + "up_proj.weight", width, c.hidden_size, share));
    SONDE_TRY(e.down_proj, in.matrix(prefix + "down_proj.weight", c.hidden_size, width, share));
    return {};
  };
  in.count_choice(c.num_experts_per_tok);
  moe->experts.resize(std::size_t(c.n_routed_experts));
  for (int64_t e = 0; e < c.n_routed_experts; ++e)
    SONDE_CHECK(load(moe->experts[std::size_t(e)], at + "experts." + std::to_string(e) + ".", c.moe_intermediate_size,
                     double(c.num_experts_per_tok) / double(c.n_routed_experts)));
  if (c.n_shared_experts > 0)
    SONDE_CHECK(load(moe->shared, at + "shared_experts.", c.n_shared_experts * c.moe_intermediate_size, 1));
  return std::unique_ptr<FeedForward>(std::move(moe));
}

}  // namespace sonde
