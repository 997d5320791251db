// Chooses the instruction set and the range of rows or queries that each thread computes.
#include <cstdlib>
#include <string>

#include "base/cpu.h"
#include "base/memory.h"
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
    return t;
  }();
  return made;
}
#endif

std::vector<const KernelTable*> usable_tables() {
  std::vector<const KernelTable*> tables{&portable_table()};
#if defined(__x86_64__)
  if (cpu_features().avx2) tables.push_back(&avx2_table());
  if (cpu_features().avx512) tables.push_back(&avx512_table());
  if (cpu_features().avx512_vnni) tables.push_back(&avx512_vnni_table());
  if (cpu_features().avx512_bf16) tables.push_back(&avx512_bf16_table());
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

// SONDE_ISA names a table; an unknown name leaves the best one (choose_kernel_set() reports errors).
const KernelTable* initial_table() {
  const char* forced = std::getenv("SONDE_ISA");
  const KernelTable* chosen = forced == nullptr ? nullptr : by_name(forced);
  return chosen != nullptr ? chosen : usable_tables().back();
}

const KernelTable*& current() {
  static const KernelTable* chosen = initial_table();
  return chosen;
}

}  // namespace

const KernelTable& table() { return *current(); }

float* scratch(int64_t floats) {
  thread_local AlignedVector<float> buffer;
  if (int64_t(buffer.size()) < floats) buffer.resize(std::size_t(floats));
  return buffer.data();
}

}  // namespace kernels

std::string_view kernel_set() { return kernels::table().name; }

std::vector<std::string_view> kernel_sets() {
  std::vector<std::string_view> names;
  for (const kernels::KernelTable* t : kernels::usable_tables()) names.push_back(t->name);
  return names;
}

Status choose_kernel_set(std::string_view name) {
  if (const kernels::KernelTable* chosen = kernels::by_name(name)) {
    kernels::current() = chosen;
    return {};
  }
  Error error{Code::kUnsupported, "no such instruction set on this processor", "", "one of", std::string(name), ""};
  for (std::string_view known : kernel_sets()) error.expected.append(" ").append(known);
  return error;
}

}  // namespace sonde
