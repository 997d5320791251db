// The table of storage types: one row for each dtype and quant type. No other file names a quant type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace sonde {

struct Type {
  std::string_view name;         // as ggml or safetensors spell it: "Q4_K", "BF16", "F8_E4M3"
  int ggml_id;                   // -1: has no ggml id
  std::string_view safetensors;  // dtype name in a safetensors header; "": does not occur there
  int block;                     // values in a block
  int bytes;                     // bytes in a block
  // Exact values of n blocks, bit for bit as ggml computes them; null: integers that are not weights (I32, I64 ...).
  void (*unpack)(const std::byte* blocks, int64_t n, float* out);
  // Nearest blocks for block * n values; null: no quantiser here.
  void (*pack)(const float* values, int64_t n, std::byte* out);

  bool is_float() const { return block == 1 && unpack != nullptr; }
  bool is_quantised() const { return block > 1; }
  // Bytes of `cols` consecutive values; cols must be a multiple of block.
  int64_t row_bytes(int64_t cols) const { return cols / block * bytes; }
};

std::span<const Type> all_types();
const Type* type_by_ggml_id(int id);                        // null: unknown
const Type* type_by_name(std::string_view name);            // null: unknown
const Type* type_by_safetensors(std::string_view dtype);    // null: unknown

// The plain types, which code may name.
const Type* f32();
const Type* f16();
const Type* bf16();
const Type* i32();
// What code rounds matrices of its own to: signed bytes, a scale for every 32.
const Type* scaled_bytes();

}  // namespace sonde
