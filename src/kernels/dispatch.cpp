// Chooses the instruction set.
#include <algorithm>
#include <array>
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

#define SONDE_SET(name) namespace name { extern const InstructionSet kSet; }
#include "kernels/isa_list.inc"
#undef SONDE_SET

namespace {

// Each better than those before it. One that fails its trial is left out.
const std::vector<const KernelTable*>& usable_tables() {
  static const std::vector<const KernelTable*> usable = [] {
    std::vector<const KernelTable*> tables;
    for (const InstructionSet* set : instruction_sets()) {
      if (!set->runs(cpu_features())) continue;
      const KernelTable* const below = tables.empty() ? nullptr : tables.back();
      const KernelTable& table = set->table(below, cpu_features());
      // First where an instruction that the machine refuses after all does no harm.
      const auto same = [&] { return same_products(*below, table); };
      if (!set->tried || (survives(same) && same())) tables.push_back(&table);
    }
    return tables;
  }();
  return usable;
}

// SONDE_ISA names a table; an unknown name leaves the best one (kernel_set_notice() tells).
const KernelTable* initial_table() {
  const char* forced = std::getenv("SONDE_ISA");
  const KernelTable* chosen = forced == nullptr ? nullptr : table_named(forced);
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
  AlignedVector<float> scratch(std::size_t(t.pair_scratch(kTokens, kCols)));
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

std::span<const InstructionSet* const> instruction_sets() {
  static const auto sets = [] {
    std::array all{
#define SONDE_SET(name) &name::kSet,
#include "kernels/isa_list.inc"
#undef SONDE_SET
    };
    std::ranges::sort(all, {}, &InstructionSet::order);
    return all;
  }();
  return sets;
}

const KernelTable* table_named(std::string_view name) {
  for (const KernelTable* t : usable_tables()) {
    if (t->name == name) return t;
  }
  return nullptr;
}

const KernelTable& table() { return *current(); }
void use_table(const KernelTable& table) { current() = &table; }

const StripType* strips_of_one_token() {
  static const KernelTable* const narrow = [] {
    const auto& tables = usable_tables();
    return *std::find_if(tables.rbegin(), tables.rend(), [](const KernelTable* t) { return !t->wide; });
  }();
  return (read_once.narrow && table().wide ? *narrow : table()).strips;
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
  using namespace kernels;
  if (const char* forced = std::getenv("SONDE_ISA"); forced != nullptr && *forced != 0 && table_named(forced) == nullptr)
    return "SONDE_ISA names no instruction set that this processor has: the best one serves";
  static const std::string left_out = [] {
    std::string line;
    for (const InstructionSet* set : instruction_sets()) {
      const CpuFeatures& f = cpu_features();
      const char* const refused = set->refused == nullptr ? nullptr : set->refused(f);
      if (refused != nullptr) line = refused;
      else if (set->runs(f) && table_named(set->name) == nullptr)
        line = std::string(set->name) + " fails the check at start, or it could not be made";
    }
    return line.empty() ? line : line + ": the best without it is " + usable_tables().back()->name;
  }();
  return left_out;
}

std::vector<std::string_view> kernel_sets() {
  std::vector<std::string_view> names;
  for (const kernels::KernelTable* t : kernels::usable_tables()) names.push_back(t->name);
  return names;
}

Status choose_kernel_set(std::string_view name) {
  if (const kernels::KernelTable* chosen = kernels::table_named(name)) {
    kernels::use_table(*chosen);
    return {};
  }
  Error error{Code::kUnsupported, "no such instruction set on this processor", "", "one of", std::string(name), ""};
  for (std::string_view known : kernel_sets()) error.expected.append(" ").append(known);
  return error;
}

}  // namespace sonde
