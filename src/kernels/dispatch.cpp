// Chooses the instruction set.
#include <bit>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/trial.h"
#include "kernels/kernels.h"
#include "kernels/table.h"
#include "tensor/types.h"

namespace sonde {
namespace kernels {
namespace {

#if defined(__x86_64__)
// As the best set without it, with products of BF16 pairs where there are any.
const KernelTable& avx512_bf16_table() {
  static const KernelTable made = [] {
    KernelTable t = cpu_features().avx512_vnni ? avx512_vnni_table() : avx512_table();
    t.name = "avx512_bf16";
    t.attention_segment = bf16_attention_segment, t.segment_scratch = bf16_segment_scratch;
    t.pair_parts = bf16_pair_parts, t.round_pairs = bf16_round_pairs, t.pairs = bf16_pairs;
    t.bf16_burst = bf16_dot_burst;
    return t;
  }();
  return made;
}

// Null: tiles cannot be used here, or do not give what vectors give.
const KernelTable* amx_if_it_works() {
  static const KernelTable* const works = []() -> const KernelTable* {
    const CpuFeatures& f = cpu_features();
    if (!f.amx_int8 || !f.avx512_vnni) return nullptr;
    const KernelTable& vectors = f.avx512_bf16 ? avx512_bf16_table() : avx512_vnni_table();
    const KernelTable& tiles = amx_table(vectors, f.amx_bf16);
    // First where an instruction that the machine refuses after all does no harm.
    const auto same = [&] { return same_products(vectors, tiles); };
    return survives(same) && same() ? &tiles : nullptr;
  }();
  return works;
}
#endif

std::vector<const KernelTable*> usable_tables() {
  std::vector<const KernelTable*> tables{&portable_table()};
#if defined(__x86_64__)
  if (cpu_features().avx2) tables.push_back(&avx2_table());
  if (cpu_features().avx512) tables.push_back(&avx512_table());
  if (cpu_features().avx512_vnni) tables.push_back(&avx512_vnni_table());
  if (cpu_features().avx512_bf16) tables.push_back(&avx512_bf16_table());
  if (const KernelTable* amx = amx_if_it_works()) tables.push_back(amx);
#elif defined(__aarch64__)
  if (cpu_features().neon) tables.push_back(&neon_table());
  if (cpu_features().neon_dotprod) tables.push_back(&neon_dotprod_table());
#endif
  return tables;
}

const KernelTable* by_name(std::string_view name) {
  for (const KernelTable* t : usable_tables()) {
    if (t->name == name) return t;
  }
  return nullptr;
}

// SONDE_ISA names a table; an unknown name leaves the best one (kernel_set_notice() tells).
const KernelTable* initial_table() {
  const char* forced = std::getenv("SONDE_ISA");
  const KernelTable* chosen = forced == nullptr ? nullptr : by_name(forced);
  return chosen != nullptr ? chosen : usable_tables().back();
}

const KernelTable*& current() {
  static const KernelTable* chosen = initial_table();
  return chosen;
}

// Pairs of BF16 whose sums need no more than the 24 bits of a float, so that every order of adding gives them exactly:
// whole tiles, a part of one in rows, columns and tokens.
bool right_pairs(const KernelTable& t) {
  constexpr int64_t kRows = 53, kCols = 95, kTokens = 33;
  const auto value = [](int64_t i) { return int(i * 89 % 511) - 255; };
  std::vector<float> x(kTokens * kCols), y(kTokens * kRows);
  std::vector<uint16_t> w(kRows * kCols);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = float(value(int64_t(i) + 7));
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = uint16_t(std::bit_cast<uint32_t>(float(value(int64_t(i)))) >> 16);
  AlignedVector<std::byte> rounded((kTokens + (kTokens - 1) / 16) * ((kCols + 31) / 32) * 64);
  const StripInput in{x.data(), nullptr, kTokens, kCols, kCols, 0, 1, false, true, rounded.data()};
  t.round_pairs(in, 0, t.pair_parts(in));
  const auto* const stored = reinterpret_cast<const std::byte*>(w.data());
  AlignedVector<float> scratch(t.pair_scratch == nullptr ? 0 : std::size_t(t.pair_scratch(kTokens)));
  t.pairs({stored, kRows, kCols, 2 * kCols, rounded.data(), kTokens, y.data(), kRows, nullptr}, 0, kRows, scratch.data());
  for (int64_t i = 0; i < kTokens; ++i) {
    for (int64_t r = 0; r < kRows; ++r) {
      int sum = 0;
      for (int64_t k = 0; k < kCols; ++k) sum += value(i * kCols + k + 7) * value(r * kCols + k);
      if (y[std::size_t(i * kRows + r)] != float(sum)) return false;
    }
  }
  return true;
}

}  // namespace

ReadOnce read_once{!cpu_features().few_nontemporal, cpu_features().few_nontemporal, cpu_features().few_nontemporal};

const KernelTable& table() { return *current(); }
void use_table(const KernelTable& table) { current() = &table; }

const StripType* strips_of_one_token() {
#if defined(__x86_64__)
  if (read_once.narrow && table().wide) return avx2_table().strips;
#endif
  return table().strips;
}

bool same_products(const KernelTable& a, const KernelTable& b) {
  for (const KernelTable* t : {&a, &b}) {
    if (t->pairs != nullptr && !right_pairs(*t)) return false;
  }
  constexpr int64_t kTokens = 17, kCols = 256;
  std::vector<float> x(kTokens * kCols);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = float(i * 37 % 251) - 125;
  for (std::size_t i = 0; i < all_types().size(); ++i) {
    const StripType& type = a.strips[i];
    if (type.bytes == 0) continue;
    const int64_t blocks = kCols / all_types()[i].block;
    AlignedVector<std::byte> w(std::size_t(blocks * type.bytes));
    for (std::size_t j = 0; j < w.size(); ++j) w.data()[j] = std::byte(j * 7 % 60);  // as halves: finite
    AlignedVector<std::byte> bytes(std::size_t(kTokens * kCols / 32 * (36 + 4 * type.halves)));
    const StripInput in{x.data(), nullptr, kTokens, kCols, kCols, type.zero, type.halves, type.min, false, bytes.data()};
    std::vector<float> y[2];
    for (const KernelTable* t : {&a, &b}) {
      std::vector<float>& out = y[t == &b];
      out.resize(kTokens * 16);
      t->round_tiles(in, 0, t->tile_count(kTokens));
      t->strips[i].multiply({w.data(), nullptr, 16, blocks, type.bytes * blocks, bytes.data(), kTokens, out.data(), 16, nullptr}, 0, 1);
    }
    if (std::memcmp(y[0].data(), y[1].data(), y[0].size() * sizeof(float)) != 0) return false;
  }
  return true;
}

float* scratch(int64_t floats) {
  thread_local AlignedVector<float> buffer;
  if (int64_t(buffer.size()) < floats) buffer.resize(std::size_t(floats));
  return buffer.data();
}

}  // namespace kernels

std::string_view kernel_set() { return kernels::table().name; }

std::string_view kernel_set_notice() {
  if (const char* forced = std::getenv("SONDE_ISA"); forced != nullptr && *forced != 0 && kernels::by_name(forced) == nullptr)
    return "SONDE_ISA names no instruction set that this processor has: the best one serves";
#if defined(__x86_64__)
  const CpuFeatures& f = cpu_features();
  if (f.amx_refused) return "the processor has AMX, but the system refuses its tiles (arch_prctl): AVX-512 serves";
  if (f.amx_int8 && f.avx512_vnni && kernels::amx_if_it_works() == nullptr)
    return "AMX fails the check at start, or it could not be made: AVX-512 serves";
#endif
  return "";
}

std::vector<std::string_view> kernel_sets() {
  std::vector<std::string_view> names;
  for (const kernels::KernelTable* t : kernels::usable_tables()) names.push_back(t->name);
  return names;
}

Status choose_kernel_set(std::string_view name) {
  if (const kernels::KernelTable* chosen = kernels::by_name(name)) {
    kernels::use_table(*chosen);
    return {};
  }
  Error error{Code::kUnsupported, "no such instruction set on this processor", "", "one of", std::string(name), ""};
  for (std::string_view known : kernel_sets()) error.expected.append(" ").append(known);
  return error;
}

}  // namespace sonde
