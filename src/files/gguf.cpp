#include "files/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "files/bounds.h"
#include "files/error.h"
#include "files/json.h"

namespace sonde {
namespace {

constexpr uint32_t kVersion = 3;
constexpr uint32_t kMaxDims = 4;
constexpr uint64_t kMaxKey = 65535, kMaxName = 1024;
constexpr int kMaxArrayDepth = 8;
constexpr uint64_t kLeastKeyBytes = 8 + 4 + 1;             // empty key, type, one byte
constexpr uint64_t kLeastTensorBytes = 8 + 4 + 8 + 4 + 8;  // empty name, one dimension

int scalar_bytes(GgufType type) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool:
      return 1;
    case GgufType::kU16:
    case GgufType::kI16:
      return 2;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32:
      return 4;
    case GgufType::kU64:
    case GgufType::kI64:
    case GgufType::kF64:
      return 8;
    default:
      return 0;
  }
}

template <class T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

// Walks the file; every step says whether the bytes were there.
class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::size_t left() const { return bytes_.size() - at_; }
  std::size_t position() const { return at_; }

  template <class T>
  bool read(T& value) {
    if (left() < sizeof(T)) return false;
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return true;
  }
  bool take(uint64_t n, std::span<const std::byte>& out) {
    if (n > left()) return false;
    out = bytes_.subspan(at_, static_cast<std::size_t>(n));
    at_ += static_cast<std::size_t>(n);
    return true;
  }
  bool text(std::string_view& out, uint64_t limit = UINT64_MAX) {
    uint64_t n = 0;
    std::span<const std::byte> bytes;
    if (!read(n) || n > limit || !take(n, bytes)) return false;
    out = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    return true;
  }
  std::span<const std::byte> since(std::size_t begin) const { return bytes_.subspan(begin, at_ - begin); }

 private:
  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
};

Error cut_off(const std::string& where) {
  return corrupt(where, "the file ends too early, or a length in it is wrong", {}, {},
                 "the download may be incomplete");
}

Status read_value(Cursor& cursor, uint32_t raw_type, GgufValue& value, const std::string& where, int depth) {
  if (raw_type > static_cast<uint32_t>(GgufType::kF64)) {
    return corrupt(where, "unknown metadata type", "0 to 12", fmt::format("{}", raw_type));
  }
  value.type = static_cast<GgufType>(raw_type);
  if (const int n = scalar_bytes(value.type); n > 0) {
    if (!cursor.take(static_cast<uint64_t>(n), value.bytes)) return cut_off(where);
    return {};
  }
  if (value.type == GgufType::kText) {
    std::string_view text;
    if (!cursor.text(text)) return cut_off(where);
    value.bytes = std::as_bytes(std::span(text.data(), text.size()));
    return {};
  }
  uint32_t element = 0;
  if (!cursor.read(element) || !cursor.read(value.count)) return cut_off(where);
  if (element > static_cast<uint32_t>(GgufType::kF64)) {
    return corrupt(where, "unknown metadata type", "0 to 12", fmt::format("{}", element));
  }
  if (depth >= kMaxArrayDepth)
    return corrupt(where, "arrays are nested too deep", fmt::format("at most {}", kMaxArrayDepth));
  value.element = static_cast<GgufType>(element);
  const std::size_t begin = cursor.position();
  if (const int n = scalar_bytes(value.element); n > 0) {
    if (value.count > cursor.left() / static_cast<uint64_t>(n)) return cut_off(where);
    if (!cursor.take(value.count * static_cast<uint64_t>(n), value.bytes)) return cut_off(where);
    return {};
  }
  // Every text takes at least 8 bytes and every array 12, so the loop ends with the file.
  for (uint64_t i = 0; i < value.count; ++i) {
    GgufValue inner;
    SONDE_CHECK(read_value(cursor, element, inner, where, depth + 1));
  }
  value.bytes = cursor.since(begin);
  return {};
}

Status read_metadata(Cursor& cursor, uint64_t keys, Gguf& out, const std::string& where) {
  for (uint64_t i = 0; i < keys; ++i) {
    std::string_view key;
    uint32_t type = 0;
    if (!cursor.text(key, kMaxKey)) return cut_off(fmt::format("{}: metadata key {}", where, i));
    if (!is_utf8(key)) return corrupt(where, "a metadata key is not UTF-8", {}, to_utf8(key));
    const std::string here = fmt::format("{}: {}", where, key);
    if (!cursor.read(type)) return cut_off(here);
    GgufValue value;
    SONDE_CHECK(read_value(cursor, type, value, here, 0));
    if (!out.metadata.emplace(key, value).second) return corrupt(here, "the metadata key occurs twice");
  }
  if (const GgufValue* value = out.find("general.alignment")) {
    const auto n = value->integer();
    if (!n || *n <= 0 || !std::has_single_bit(static_cast<uint64_t>(*n)) || *n > (int64_t{1} << 30)) {
      return corrupt(where, "general.alignment is not a power of two", {}, n ? fmt::format("{}", *n) : "no integer");
    }
    out.alignment = static_cast<uint64_t>(*n);
  }
  return {};
}

struct Placed {
  uint64_t offset = 0, bytes = 0;
  std::size_t index = 0;
};

Status read_tensor_info(Cursor& cursor, uint64_t number, Gguf& out, std::vector<Placed>& placed,
                        const std::string& where) {
  std::string_view name;
  uint32_t dims = 0, type = 0;
  uint64_t offset = 0;
  if (!cursor.text(name, kMaxName)) return cut_off(fmt::format("{}: tensor {}", where, number));
  if (name.empty() || !is_utf8(name)) return corrupt(where, "a tensor's name is empty or not UTF-8", {}, to_utf8(name));
  const std::string here = fmt::format("{}: {}", where, name);
  if (!cursor.read(dims)) return cut_off(here);
  if (dims > kMaxDims) {
    return corrupt(here, "too many dimensions", fmt::format("at most {}", kMaxDims), fmt::format("{}", dims));
  }
  Tensor tensor;
  for (uint32_t d = 0; d < dims; ++d) {
    uint64_t n = 0;
    if (!cursor.read(n)) return cut_off(here);
    if (n == 0 || n > static_cast<uint64_t>(INT64_MAX))
      return corrupt(here, "an impossible dimension", {}, fmt::format("{}", n));
    tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(n));  // ne[0] is the innermost
  }
  if (!cursor.read(type) || !cursor.read(offset)) return cut_off(here);
  tensor.type = type > INT32_MAX ? nullptr : type_by_ggml_id(static_cast<int>(type));
  if (tensor.type == nullptr) {
    return file_error(Code::kUnsupported, here, "unknown tensor type", {}, fmt::format("number {}", type));
  }
  SONDE_TRY(const int64_t bytes, tensor_bytes(*tensor.type, tensor.shape, here));
  if (offset % out.alignment != 0) {
    return corrupt(here, "the tensor's offset is not aligned", fmt::format("a multiple of {}", out.alignment),
                   fmt::format("{}", offset));
  }
  placed.push_back({offset, static_cast<uint64_t>(bytes), out.tensors.size()});
  out.tensors.push_back({std::string(name), std::move(tensor)});
  return {};
}

Status place_tensors(std::span<const std::byte> data, Gguf& out, std::vector<Placed>& placed,
                     const std::string& where) {
  std::sort(placed.begin(), placed.end(), [](const Placed& a, const Placed& b) { return a.offset < b.offset; });
  uint64_t end = 0;
  for (const Placed& p : placed) {
    Gguf::Entry& entry = out.tensors[p.index];
    const std::string here = fmt::format("{}: {}", where, entry.name);
    if (p.offset > data.size() || p.bytes > data.size() - p.offset) {
      return corrupt(here, "the tensor reaches beyond the end of the file",
                     fmt::format("at most {} bytes of data", data.size()),
                     fmt::format("{} bytes at {}", p.bytes, p.offset), "the download may be incomplete");
    }
    if (p.offset < end) {
      return corrupt(here, "tensors overlap", fmt::format("an offset of at least {}", end),
                     fmt::format("{}", p.offset));
    }
    end = p.offset + p.bytes;
    entry.tensor.bytes = data.subspan(static_cast<std::size_t>(p.offset), static_cast<std::size_t>(p.bytes));
  }
  return {};
}

}  // namespace

Result<Gguf> parse_gguf(std::span<const std::byte> bytes, const std::string& where) {
  Cursor cursor(bytes);
  char magic[4] = {};
  uint32_t version = 0;
  if (!cursor.read(magic) || std::memcmp(magic, "GGUF", 4) != 0) {
    return corrupt(where, "not a GGUF file", "the bytes \"GGUF\" at the start");
  }
  if (!cursor.read(version)) return cut_off(where);
  if (version != kVersion) {
    const bool swapped = (version & 0xFFFF) == 0 && version != 0;
    return file_error(Code::kUnsupported, where,
                      swapped ? "a big-endian GGUF file" : "a GGUF version that is not read here",
                      "version 3, little-endian", fmt::format("version {}", swapped ? version >> 24 : version),
                      "convert the file anew with a recent converter");
  }
  uint64_t tensors = 0, keys = 0;
  if (!cursor.read(tensors) || !cursor.read(keys)) return cut_off(where);
  if (keys > cursor.left() / kLeastKeyBytes || tensors > cursor.left() / kLeastTensorBytes) {
    return corrupt(where, "the header counts more keys or tensors than the file can hold", {},
                   fmt::format("{} keys, {} tensors in {} bytes", keys, tensors, bytes.size()));
  }
  Gguf out;
  SONDE_CHECK(read_metadata(cursor, keys, out, where));
  std::vector<Placed> placed;
  for (uint64_t i = 0; i < tensors; ++i) SONDE_CHECK(read_tensor_info(cursor, i, out, placed, where));
  std::set<std::string_view> names;
  for (const Gguf::Entry& e : out.tensors) {
    if (!names.insert(e.name).second) return corrupt(where, "a tensor's name occurs twice", {}, e.name);
  }
  out.header_bytes = static_cast<std::size_t>(cursor.position());
  const uint64_t start = (cursor.position() + out.alignment - 1) / out.alignment * out.alignment;
  const auto data =
      start <= bytes.size() ? bytes.subspan(static_cast<std::size_t>(start)) : std::span<const std::byte>();
  SONDE_CHECK(place_tensors(data, out, placed, where));
  return out;
}

Result<Gguf> open_gguf(const std::string& path) {
  SONDE_TRY(auto file, MappedFile::open(path));
  SONDE_TRY(Gguf out, parse_gguf(file->bytes(), path));
  out.file = std::move(file);
  return out;
}

// --- values ---

namespace {

std::optional<int64_t> integer_at(GgufType type, const std::byte* at) {
  switch (type) {
    case GgufType::kU8:
      return load<uint8_t>(at);
    case GgufType::kI8:
      return load<int8_t>(at);
    case GgufType::kU16:
      return load<uint16_t>(at);
    case GgufType::kI16:
      return load<int16_t>(at);
    case GgufType::kU32:
      return load<uint32_t>(at);
    case GgufType::kI32:
      return load<int32_t>(at);
    case GgufType::kBool:
      return load<uint8_t>(at) != 0;
    case GgufType::kI64:
      return load<int64_t>(at);
    case GgufType::kU64: {
      const auto n = load<uint64_t>(at);
      if (n > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
      return static_cast<int64_t>(n);
    }
    default:
      return std::nullopt;
  }
}

std::optional<double> number_at(GgufType type, const std::byte* at) {
  if (type == GgufType::kF32) return load<float>(at);
  if (type == GgufType::kF64) return load<double>(at);
  if (type == GgufType::kBool) return std::nullopt;
  const auto n = integer_at(type, at);
  if (!n) return std::nullopt;
  return static_cast<double>(*n);
}

// f(type, at) for every element of a scalar array; empty when one element is not of that kind.
template <class T, class F>
std::optional<std::vector<T>> each(const GgufValue& value, F f) {
  if (value.type != GgufType::kArray) return std::nullopt;
  if (value.count == 0) return std::vector<T>();
  const int n = scalar_bytes(value.element);
  if (n == 0) return std::nullopt;
  std::vector<T> out;
  out.reserve(value.count);
  for (uint64_t i = 0; i < value.count; ++i) {
    const auto x = f(value.element, value.bytes.data() + i * static_cast<uint64_t>(n));
    if (!x) return std::nullopt;
    out.push_back(*x);
  }
  return out;
}

}  // namespace

std::string_view gguf_type_name(GgufType type) {
  constexpr std::string_view kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                         "bool", "string", "array", "u64", "i64", "f64"};
  return kNames[static_cast<uint32_t>(type)];
}

std::optional<int64_t> GgufValue::integer() const {
  return scalar_bytes(type) > 0 ? integer_at(type, bytes.data()) : std::nullopt;
}

std::optional<double> GgufValue::number() const {
  return scalar_bytes(type) > 0 ? number_at(type, bytes.data()) : std::nullopt;
}

std::optional<bool> GgufValue::boolean() const {
  if (type != GgufType::kBool) return std::nullopt;
  return load<uint8_t>(bytes.data()) != 0;
}

std::optional<std::string_view> GgufValue::text() const {
  if (type != GgufType::kText) return std::nullopt;
  return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

std::optional<std::vector<int64_t>> GgufValue::integers() const { return each<int64_t>(*this, integer_at); }
std::optional<std::vector<double>> GgufValue::numbers() const { return each<double>(*this, number_at); }

std::optional<std::vector<std::string_view>> GgufValue::texts() const {
  if (type != GgufType::kArray || (element != GgufType::kText && count > 0)) return std::nullopt;
  std::vector<std::string_view> out;
  out.reserve(count);
  Cursor cursor(bytes);
  for (uint64_t i = 0; i < count; ++i) {
    std::string_view text;
    if (!cursor.text(text)) return std::nullopt;
    out.push_back(text);
  }
  return out;
}

nlohmann::json GgufValue::json(uint64_t longest_array) const {
  if (type == GgufType::kText) return to_utf8(*text());
  if (type == GgufType::kBool) return *boolean();
  if (type == GgufType::kF32 || type == GgufType::kF64) return *number();
  if (type == GgufType::kU64) return load<uint64_t>(bytes.data());
  if (type != GgufType::kArray) return *integer();
  if (count > longest_array || element == GgufType::kArray) {
    return {{"type", fmt::format("array of {}", gguf_type_name(element))}, {"count", count}};
  }
  auto out = nlohmann::json::array();
  if (element == GgufType::kText) {
    const auto all = texts();
    if (all)
      for (const auto t : *all) out.push_back(to_utf8(t));
    return out;
  }
  const auto n = static_cast<std::size_t>(scalar_bytes(element));
  for (uint64_t i = 0; i < count; ++i) out.push_back(GgufValue{element, bytes.subspan(i * n, n)}.json(0));
  return out;
}

}  // namespace sonde
