#include "tensor/types.h"

#include "tensor/quant/all.h"

namespace sonde {
namespace {

template <class T>
constexpr Type row() {
  Type type{T::kName, T::kId, "", T::kBlock, T::kBytes, nullptr, nullptr};
  if constexpr (requires { T::kSafetensors; }) type.safetensors = T::kSafetensors;
  if constexpr (requires { &T::unpack; }) type.unpack = T::unpack;
  if constexpr (requires { &T::pack; }) type.pack = T::pack;
  return type;
}

constexpr Type kTypes[] = {
#define SONDE_ROW(T) row<quant::SONDE_ISA::T>(),
    SONDE_TYPES(SONDE_ROW)
#undef SONDE_ROW
};

const Type* find(auto&& matches) {
  for (const Type& type : kTypes) {
    if (matches(type)) return &type;
  }
  return nullptr;
}

}  // namespace

std::span<const Type> all_types() { return kTypes; }

const Type* type_by_ggml_id(int id) {
  if (id < 0) return nullptr;
  return find([&](const Type& type) { return type.ggml_id == id; });
}
const Type* type_by_name(std::string_view name) {
  return find([&](const Type& type) { return type.name == name; });
}
const Type* type_by_safetensors(std::string_view dtype) {
  if (dtype.empty()) return nullptr;
  return find([&](const Type& type) { return type.safetensors == dtype; });
}

const Type* f32() {
  static const Type* const type = type_by_name("F32");
  return type;
}
const Type* f16() {
  static const Type* const type = type_by_name("F16");
  return type;
}
const Type* bf16() {
  static const Type* const type = type_by_name("BF16");
  return type;
}
const Type* i32() {
  static const Type* const type = type_by_name("I32");
  return type;
}
const Type* scaled_bytes() {
  static const Type* const type = type_by_name(quant::kScaledBytes);
  return type;
}

}  // namespace sonde
