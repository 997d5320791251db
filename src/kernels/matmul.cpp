// Chooses how each product is multiplied; products of rounded values, split over the threads by strips of W.
#include <algorithm>
#include <iterator>

#include "base/memory.h"
#include "base/profile.h"
#include "kernels/computed.h"
#include "kernels/products.h"
#include "kernels/scratch.h"

namespace sonde {
namespace {

using kernels::Computed, kernels::kFew, kernels::kSmall, kernels::index_of, kernels::task_of, kernels::Units;
using kernels::MatmulTask, kernels::PairTask, kernels::StripInput, kernels::StripTask, kernels::StripType;

// Bytes of x in pairs from which on tiles pass over it in spans, which come from afar once for each unit.
constexpr int64_t kLargeInput = 768 << 10;
// Bytes of weights that a thread takes at once when there are few tokens: little, as it goes on where it was; more where gate and
// up take turns.
constexpr int64_t kRun = 256 << 10, kLongRun = 8 << 20;

const StripType& strip_type(const Matrix& w) { return kernels::table().strips[index_of(w.type)]; }
// Whether its prompt's rows have a form of their own.
bool differs(const Product& p) {
  if (p.prompt == 0 || p.w.packed == nullptr) return false;
  const StripType& type = strip_type(p.w);
  return type.prompt != nullptr && (type.prompt_by_pairs || !p.fine);
}
// Calls f(product) for the first rows, and for the others, a prompt's.
template <class F>
void each_part(const Product& p, int64_t answers, F&& f) {
  if (answers > 0) {
    Product part = p;
    part.m = answers, part.prompt = 0;
    f(part);
  }
  if (answers < p.m) {
    Product part = p;
    part.m = p.prompt, part.y += answers * p.ldy;
    p.rows == nullptr ? void(part.x += answers * p.ldx) : void(part.rows += answers);
    f(part);
  }
}
// Calls f(product) for the rows of answers and those of a prompt apart, where these have a form of their own.
template <class F>
void each_form(const Product& p, F&& f) {
  differs(p) ? each_part(p, p.m - p.prompt, f) : f(p);
}
// Of rows that differs() does not mean: a prompt's, or others.
Profile::Arithmetic arithmetic(const Matrix& w, bool prompt) {
  if (w.as_stored && !prompt) return Profile::kF32;
  if (w.packed != nullptr || w.by_values) return Profile::kInt8;
  return w.by_pairs && kernels::table().pairs != nullptr ? Profile::kBf16 : Profile::kF32;
}
// Of rows of one kind.
Profile::Arithmetic stored_arithmetic(const Product& p) { return arithmetic(p.w, p.prompt == p.m); }
// Products of equal x share what it is rounded to, where their types want the same.
class RoundedInputs {
 public:
  // The number of the input of p, which is kept from here on.
  std::size_t add(const Product& p) {
    const bool own = differs(p);
    const StripType type = p.w.packed != nullptr && !own ? strip_type(p.w) : StripType{};
    const bool pairs = own ? strip_type(p.w).prompt_by_pairs : stored_arithmetic(p) == Profile::kBf16;
    StripInput in{p.x, p.rows, p.m, p.ldx, p.w.cols, type.zero, type.halves, type.min, pairs, nullptr};
    if (in.m == 1 && in.rows != nullptr) in.x += *in.rows * in.ldx, in.rows = nullptr;  // other experts of that token share it
    for (std::size_t i = inputs_.size(); i-- > 0 && inputs_.size() - i <= 8;) {
      const StripInput& k = inputs_[i];
      if (k.x == in.x && k.rows == in.rows && k.m == in.m && k.ldx == in.ldx && k.cols == in.cols && k.zero == in.zero &&
          k.halves == in.halves && k.min == in.min && k.pairs == in.pairs)
        return i;
    }
    inputs_.push_back(in);
    return inputs_.size() - 1;
  }
  void clear() { inputs_.clear(); }
  const std::byte* at(std::size_t i) const { return inputs_[i].out; }

  void round(ThreadPool& pool) {
    const Profile::Scope scope(pool.profile(), "rounding of x");
    const kernels::KernelTable& table = kernels::table();
    Units tiles(int64_t(inputs_.size()));
    int64_t bytes = 0, values = 0;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      tiles.set(int64_t(i), inputs_[i].pairs ? table.pair_parts(inputs_[i]) : table.tile_count(inputs_[i].m));
      values += inputs_[i].m * inputs_[i].cols, bytes += bytes_of(inputs_[i]);
    }
    if (int64_t(bytes_.size()) < bytes) bytes_.resize(std::size_t(bytes));
    std::byte* at = bytes_.data();
    for (StripInput& in : inputs_) in.out = at, at += bytes_of(in);
    const auto part = [&](int64_t begin, int64_t end, int) {
      tiles.each(begin, end, [&](int64_t i, int64_t first, int64_t last) {
        const StripInput& in = inputs_[std::size_t(i)];
        (in.pairs ? table.round_pairs : table.round_tiles)(in, first, last);
      });
    };
    if (values < kSmall) return part(0, tiles.total(), 0);
    pool.share(tiles.total(), 1, part);
  }

 private:
  static int64_t bytes_of(const StripInput& in) {
    const int64_t runs = (in.cols + 31) / 32;
    if (in.pairs) return (in.m + (in.m - 1) / 16) * runs * 64;
    return (in.m * runs * (36 + 4 * in.halves) + 63) / 64 * 64;
  }

  std::vector<StripInput> inputs_;
  AlignedVector<std::byte> bytes_;
};

int64_t strips_of(int64_t rows) { return (rows + 15) / 16; }

struct RoundedTask {
  StripTask strips;
  kernels::PanelTask panels;
  PairTask pairs;
  const StripType* type;  // null: panels, or pairs where they have weights
  bool prompt;  // in its own form
  std::size_t input;
  int64_t m, cols, strip_count, grain;  // tokens, columns, strips (or pairs of them), strips of a unit
  Computed computed;
};

// Of strips [begin, end), and of their seconds.
void summarise_strips(const RoundedTask& t, int64_t begin, int64_t end) {
  if (t.computed.summaries == nullptr) return;
  t.computed.summarise(16 * begin, 16 * end);
  if (t.strips.second == 0) return;
  const int64_t first = t.strips.second, pairs = strips_of(t.strips.rows) - first;
  for (int64_t i = begin; i < std::min(end, pairs); ++i) {
    const int64_t strip = first + (i + t.strips.turn) % pairs;
    t.computed.summarise(16 * strip, 16 * strip + 16);
  }
}

// Strips of a unit, an even number: at most `most`, and as many units for each thread.
int64_t even_grain(int64_t strips, int64_t most, int64_t threads) {
  const int64_t rounds = (strips + most * threads - 1) / (most * threads), units = rounds * threads;
  return ((strips + units - 1) / units + 1) / 2 * 2;
}

// How many strips the second run of memory is ahead of the first, so that they come as near as can be to lying half a page
// apart: where both stand at the same place of a page, they are read more slowly.
int64_t turn_of(int64_t strips, int64_t second, int64_t strip_bytes) {
  constexpr int64_t kPage = 4096;
  const int64_t most = std::min<int64_t>(8, strips - second);
  const auto off = [&](int64_t turn) { return std::abs((second + turn) * strip_bytes % kPage - kPage / 2); };
  int64_t best = 0;
  for (int64_t turn = 1; turn < most; ++turn) {
    if (off(turn) < off(best)) best = turn;
  }
  return best;
}

RoundedTask rounded_task(const Product& p) {
  RoundedTask t{};
  t.m = p.m, t.cols = p.w.cols, t.strip_count = strips_of(p.w.rows), t.computed = Computed(p);
  if (stored_arithmetic(p) == Profile::kBf16) {
    const PairTask::Stored stored =
        p.w.type == f16() ? PairTask::kF16 : p.w.type == f32() ? PairTask::kF32 : PairTask::kBf16;
    t.pairs = {p.w.data, p.w.rows, p.w.cols, p.w.row_bytes, nullptr, p.m, p.y, p.ldy, p.bias, p.up.data, stored};
  } else if (p.w.packed == nullptr) {
    t.panels = {task_of(p.w), p.up ? task_of(p.up) : MatmulTask{}, nullptr, p.m, p.y, p.ldy, p.bias};
  } else {
    t.strips = {p.w.packed, p.up.packed, p.w.rows, p.w.cols / p.w.type->block, p.w.strip_bytes, nullptr, p.m, p.y, p.ldy, p.bias};
    t.prompt = differs(p);
    t.type = p.m == 1 && !t.prompt ? &kernels::strips_of_one_token()[index_of(p.w.type)] : &strip_type(p.w);
    if (kernels::read_once.two_runs && !t.prompt && p.m <= kFew && !p.up && t.strip_count > 1) {
      t.strips.second = (t.strip_count + 1) / 2, t.strips.turn = turn_of(t.strip_count, t.strips.second, p.w.strip_bytes);
      t.strip_count = t.strips.second;
    }
  }
  return t;
}

// Where memory goes on behind each task.
void link(std::vector<RoundedTask>& tasks) {
  for (std::size_t i = 0; i + 1 < tasks.size(); ++i) {
    const RoundedTask& after = tasks[i + 1];
    const std::byte* const first = after.type != nullptr ? after.strips.w : after.pairs.w;
    const std::byte* const other = after.strips.up != nullptr
                                       ? after.strips.up
                                       : first + (after.strips.second + after.strips.turn) * after.strips.strip_bytes;
    tasks[i].strips.then[0] = first, tasks[i].strips.then[1] = other;
  }
}

void matmul_rounded(ThreadPool& pool, std::span<const Product> products) {
  constexpr int64_t kPanels = 384 << 10;  // bytes of a unit's panels, which stay in the second-level cache
  thread_local RoundedInputs inputs;
  thread_local std::vector<RoundedTask> tasks;
  inputs.clear(), tasks.clear();
  int64_t strips = 0, bytes = 0, bytes_of_few = 0, work = 0;
  for (const Product& p : products) {
    if (p.m == 0 || stored_arithmetic(p) == Profile::kF32) continue;
    each_form(p, [&](const Product& part) {
      tasks.push_back(rounded_task(part));
      tasks.back().input = inputs.add(part);
    });
    const int64_t stored = strips_of(p.w.rows) * 16 * p.w.row_bytes * (p.up ? 2 : 1);
    bytes += stored, work += stored * p.m;
    if (p.m <= kFew) bytes_of_few += stored;
  }
  if (tasks.empty()) return;
  for (const RoundedTask& t : tasks) strips += t.strip_count;
  link(tasks);
  inputs.round(pool);

  // Few tokens, of most weights (a batch's experts see few each): runs of memory as long as the balance allows. Many: as many
  // strips as share a pass over x.
  const bool few = 2 * bytes_of_few > bytes;
  const int64_t threads = pool.size();
  const kernels::KernelTable& table = kernels::table();
  Units units(int64_t(tasks.size()));
  int64_t scratch = 0;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    RoundedTask& t = tasks[i];
    if (t.type == nullptr && t.pairs.w == nullptr) {
      const int64_t panel = table.panel_bytes(t.panels.w.cols) * (t.panels.up.data != nullptr ? 2 : 1);
      t.panels.x = inputs.at(t.input);
      t.grain = few ? 2 : std::clamp<int64_t>(std::min(kPanels / panel, strips / (threads * 6)) / 2 * 2, 2, 16);
      scratch = std::max(scratch, t.grain * panel);
    } else {
      t.strips.x = t.pairs.x = inputs.at(t.input);
      const int64_t least = t.pairs.w != nullptr || t.prompt ? 2 : 1;  // two share what is loaded of x
      const int64_t floats =
          t.prompt ? table.prompt_scratch(t.m) : t.pairs.w != nullptr ? table.pair_scratch(t.m, t.cols) : 0;
      scratch = std::max(scratch, floats * int64_t(sizeof(float)));
      t.grain = few ? 1 : std::clamp<int64_t>(strips / (threads * 8) / least * least, least, 8);
      const bool tiles = t.prompt ? t.type->prompt_by_pairs : t.pairs.w != nullptr && table.pair_tiles;
      const bool gated = t.strips.up != nullptr || t.pairs.up != nullptr;
      if (!few && tiles && t.m * t.cols * 2 > kLargeInput) t.grain = even_grain(t.strip_count, gated ? 8 : 16, threads);
    }
    units.set(int64_t(i), (t.strip_count + t.grain - 1) / t.grain);
  }
  const RoundedTask* const all = tasks.data();
  const auto compute = [&](int64_t begin, int64_t end, int) {
    float* const mine = scratch > 0 ? kernels::scratch((scratch + 3) / 4) : nullptr;
    units.each(begin, end, [&](int64_t i, int64_t first, int64_t last) {
      const RoundedTask& t = all[i];
      const int64_t end_strip = std::min(last * t.grain, t.strip_count);
      if (t.prompt) return t.type->prompt(t.strips, first * t.grain, end_strip, mine);
      if (t.type != nullptr) {
        t.type->multiply(t.strips, first * t.grain, end_strip);
      } else if (t.pairs.w != nullptr) {
        table.pairs(t.pairs, 16 * first * t.grain, std::min(16 * last * t.grain, t.pairs.rows), mine);
      } else {
        for (int64_t u = first; u < last; ++u) {
          table.panels(t.panels, u * t.grain, std::min((u + 1) * t.grain, t.strip_count), reinterpret_cast<std::byte*>(mine));
        }
      }
      summarise_strips(t, first * t.grain, end_strip);
    });
  };
  if (threads == 1 || work < kSmall) return compute(0, units.total(), 0);
  if (!few) return pool.share(units.total(), 1, compute);
  const int64_t run = kernels::read_once.two_runs ? kRun : kLongRun;
  pool.share_parts(units.total(), std::max<int64_t>(1, strips * run / bytes), compute);
}

// Products whose gates and ups, if any, are multiplied together.
void matmul_joined(ThreadPool& pool, std::span<const Product> products) {
  const auto is_exact = [](const Product& p) { return stored_arithmetic(p) == Profile::kF32; };
  const auto exact = std::count_if(products.begin(), products.end(), is_exact);
  if (exact == std::ssize(products)) return kernels::matmul_exact(pool, products);
  matmul_rounded(pool, products);
  if (exact == 0) return;
  thread_local std::vector<Product> rest;
  rest.clear();
  std::copy_if(products.begin(), products.end(), std::back_inserter(rest), is_exact);
  kernels::matmul_exact(pool, rest);
}

// Rounded ones are joined where they are stored alike.
bool in_two(const Product& p) {
  if (!p.up) return false;
  const bool prompt = p.prompt == p.m;
  const Profile::Arithmetic kind = arithmetic(p.w, prompt);
  if (kind != arithmetic(p.up, prompt)) return true;
  if (kind == Profile::kF32) return false;
  return p.w.type != p.up.type || p.w.row_bytes != p.up.row_bytes || bool(p.w.packed) != bool(p.up.packed);
}

// silu(x w^T) * (x up^T) from two products: w's goes to y, up's to a scratch beside it.
void matmul_gated_apart(ThreadPool& pool, std::span<const Product> products) {
  thread_local AlignedVector<float> ups;
  std::size_t floats = 0;
  for (const Product& p : products) floats += std::size_t(p.m * p.w.rows);
  if (ups.size() < floats) ups.resize(floats);
  thread_local std::vector<Product> plain;
  plain.clear();
  float* at = ups.data();
  for (const Product& p : products) {
    plain.push_back({p.w, p.x, p.m, p.ldx, p.y, p.ldy, nullptr, {}, p.rows, p.prompt, p.fine});
    plain.push_back({p.up, p.x, p.m, p.ldx, at, p.w.rows, nullptr, {}, p.rows, p.prompt, p.fine});
    at += p.m * p.w.rows;
  }
  matmul_joined(pool, plain);
  at = ups.data();
  const Profile::Scope scope(pool.profile(), "silu");
  for (const Product& p : products) {
    pool.split(p.m, std::max<int64_t>(1, kSmall / p.w.rows), [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        kernels::table().silu_mul(p.y + i * p.ldy, at + i * p.w.rows, p.y + i * p.ldy, p.w.rows);
      }
    });
    at += p.m * p.w.rows;
  }
}

}  // namespace

Profile::Arithmetic arithmetic(const Product& p) {
  return differs(p) && strip_type(p.w).prompt_by_pairs ? Profile::kBf16 : stored_arithmetic(p);
}

bool has_prompt_form(const Matrix& w) {
  return differs({.w = w, .x = nullptr, .m = 1, .ldx = 0, .y = nullptr, .ldy = 0, .prompt = 1}) ||
         arithmetic(w, true) != arithmetic(w, false);
}

void matmul(ThreadPool& pool, std::span<const Product> given) {
  const auto mixed = [](const Product& p) {
    return (p.w.as_stored || p.up.as_stored) && p.prompt > 0 && p.prompt < p.m;
  };
  thread_local std::vector<Product> parts;
  std::span<const Product> products = given;
  if (std::any_of(given.begin(), given.end(), mixed)) {
    parts.clear();
    const auto keep = [](const Product& part) { parts.push_back(part); };
    for (const Product& p : given) mixed(p) ? each_part(p, p.m - p.prompt, keep) : keep(p);
    products = parts;
  }
  const auto apart = std::count_if(products.begin(), products.end(), in_two);
  if (apart == std::ssize(products)) return matmul_gated_apart(pool, products);
  if (apart == 0) return matmul_joined(pool, products);
  thread_local std::vector<Product> joined, gated;
  joined.clear(), gated.clear();
  for (const Product& p : products) (in_two(p) ? gated : joined).push_back(p);
  matmul_joined(pool, joined), matmul_gated_apart(pool, gated);
}

void matmul(ThreadPool& pool, const Matrix& w, const float* x, int64_t m, int64_t ldx, float* y, int64_t ldy,
            const float* bias) {
  const Product product{w, x, m, ldx, y, ldy, bias};
  matmul(pool, std::span(&product, 1));
}

}  // namespace sonde
