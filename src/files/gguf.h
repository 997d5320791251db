// GGUF v3: header, metadata, tensor table, data. One file in, one file out; split sets and names are the Checkpoint's
// business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "files/map.h"
#include "files/output.h"
#include "sonde/result.h"
#include "tensor/tensor.h"

namespace sonde {

enum class GgufType : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kText, kArray, kU64, kI64, kF64 };

// One metadata value, left in the file: nothing is copied until it is asked for.
struct GgufValue {
  GgufType type = GgufType::kU8;
  std::span<const std::byte> bytes;  // scalar: its bytes; text: its bytes; array: the elements as stored
  GgufType element = GgufType::kU8;  // arrays
  uint64_t count = 0;                // arrays

  // Empty where the value is of another kind (or does not fit).
  std::optional<int64_t> integer() const;  // any integer type, bool
  std::optional<double> number() const;    // any number
  std::optional<bool> boolean() const;
  std::optional<std::string_view> text() const;
  std::optional<std::vector<int64_t>> integers() const;
  std::optional<std::vector<double>> numbers() const;
  std::optional<std::vector<std::string_view>> texts() const;
  nlohmann::json json(uint64_t longest_array) const;  // longer arrays as {"type", "count"}
};

struct Gguf {
  struct Entry {
    std::string name;
    Tensor tensor;
  };
  std::map<std::string, GgufValue, std::less<>> metadata;
  std::vector<Entry> tensors;  // in the order of the file
  uint64_t alignment = 32;
  std::size_t header_bytes = 0;  // up to the end of the tensor table
  std::shared_ptr<const MappedFile> file;  // null when parsed from memory

  const GgufValue* find(std::string_view key) const {
    const auto at = metadata.find(key);
    return at == metadata.end() ? nullptr : &at->second;
  }
};

// Views into `bytes`; `where` names the file in errors. Shapes are turned round: outermost first.
Result<Gguf> parse_gguf(std::span<const std::byte> bytes, const std::string& where);
Result<Gguf> open_gguf(const std::string& path);

std::string_view gguf_type_name(GgufType type);

// Writes a file tensor by tensor: keys, all declarations, begin, then the bytes in the declared order.
class GgufWriter {
 public:
  void set_u32(std::string key, uint32_t value);
  void set_i32(std::string key, int32_t value);
  void set_u64(std::string key, uint64_t value);
  void set_f32(std::string key, float value);
  void set_f64(std::string key, double value);
  void set_bool(std::string key, bool value);
  void set_text(std::string key, std::string_view value);
  void set_texts(std::string key, const std::vector<std::string>& values);
  void set_i32s(std::string key, const std::vector<int32_t>& values);
  void set_f32s(std::string key, const std::vector<float>& values);
  void set(std::string key, const GgufValue& value);                             // as another file holds it
  void declare(std::string name, const Type& type, std::vector<int64_t> shape);  // outermost first
  Status begin(const std::string& path);
  Status write(std::span<const std::byte> bytes);  // pieces must not straddle two tensors
  Status finish();

 private:
  struct Entry {
    std::string name;
    const Type* type;
    std::vector<int64_t> shape;
    int64_t bytes = 0;
  };
  void key(std::string& name, GgufType type);
  Status pad();
  std::string metadata_;  // encoded
  uint64_t keys_ = 0;
  std::vector<Entry> entries_;
  std::unique_ptr<OutputFile> file_;
  std::size_t current_ = 0;
  int64_t written_ = 0;  // of the current tensor
};

}  // namespace sonde
