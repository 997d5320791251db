#include <fmt/format.h>

#include <set>

#include "files/bounds.h"
#include "files/error.h"
#include "files/gguf.h"
#include "files/json.h"

namespace sonde {
namespace {

template <class T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_text(std::string& out, std::string_view text) {
  append<uint64_t>(out, text.size());
  out.append(text);
}

constexpr uint32_t kVersion = 3;
constexpr std::size_t kMaxDims = 4;
constexpr int64_t kWriteAlignment = 32;  // the default, so general.alignment need not be written

}  // namespace

void GgufWriter::key(std::string& name, GgufType type) {
  append_text(metadata_, name);
  append(metadata_, static_cast<uint32_t>(type));
  ++keys_;
}

void GgufWriter::set_u32(std::string name, uint32_t value) { key(name, GgufType::kU32), append(metadata_, value); }
void GgufWriter::set_i32(std::string name, int32_t value) { key(name, GgufType::kI32), append(metadata_, value); }
void GgufWriter::set_u64(std::string name, uint64_t value) { key(name, GgufType::kU64), append(metadata_, value); }
void GgufWriter::set_f32(std::string name, float value) { key(name, GgufType::kF32), append(metadata_, value); }
void GgufWriter::set_f64(std::string name, double value) { key(name, GgufType::kF64), append(metadata_, value); }
void GgufWriter::set_bool(std::string name, bool value) {
  key(name, GgufType::kBool), append<uint8_t>(metadata_, value);
}
void GgufWriter::set_text(std::string name, std::string_view value) {
  key(name, GgufType::kText), append_text(metadata_, value);
}

void GgufWriter::set_texts(std::string name, const std::vector<std::string>& values) {
  key(name, GgufType::kArray);
  append(metadata_, static_cast<uint32_t>(GgufType::kText));
  append<uint64_t>(metadata_, values.size());
  for (const auto& v : values) append_text(metadata_, v);
}

void GgufWriter::set_i32s(std::string name, const std::vector<int32_t>& values) {
  key(name, GgufType::kArray);
  append(metadata_, static_cast<uint32_t>(GgufType::kI32));
  append<uint64_t>(metadata_, values.size());
  for (const auto v : values) append(metadata_, v);
}

void GgufWriter::set_f32s(std::string name, const std::vector<float>& values) {
  key(name, GgufType::kArray);
  append(metadata_, static_cast<uint32_t>(GgufType::kF32));
  append<uint64_t>(metadata_, values.size());
  for (const auto v : values) append(metadata_, v);
}

void GgufWriter::set(std::string name, const GgufValue& value) {
  key(name, value.type);
  if (value.type == GgufType::kText) append<uint64_t>(metadata_, value.bytes.size());
  if (value.type == GgufType::kArray) {
    append(metadata_, static_cast<uint32_t>(value.element));
    append(metadata_, value.count);
  }
  metadata_.append(reinterpret_cast<const char*>(value.bytes.data()), value.bytes.size());
}

void GgufWriter::declare(std::string name, const Type& type, std::vector<int64_t> shape) {
  entries_.push_back({std::move(name), &type, std::move(shape)});
}

Status GgufWriter::begin(const std::string& path) {
  std::string header = "GGUF";
  append<uint32_t>(header, kVersion);
  append<uint64_t>(header, entries_.size());
  append<uint64_t>(header, keys_);
  header += metadata_;
  std::set<std::string_view> names;
  int64_t offset = 0;
  for (Entry& e : entries_) {
    const std::string where = fmt::format("{}: {}", path, e.name);
    if (e.name.empty() || !is_utf8(e.name) || !names.insert(e.name).second) {
      return file_error(Code::kInvalid, where, "not a name for a tensor, or one that occurs twice");
    }
    if (e.type->ggml_id < 0)
      return file_error(Code::kUnsupported, where, "GGUF has no such type", {}, std::string(e.type->name));
    if (e.shape.size() > kMaxDims) return file_error(Code::kUnsupported, where, "GGUF has at most 4 dimensions");
    SONDE_TRY(e.bytes, tensor_bytes(*e.type, e.shape, where));
    append_text(header, e.name);
    append(header, static_cast<uint32_t>(e.shape.size()));
    for (auto d = e.shape.rbegin(); d != e.shape.rend(); ++d) append(header, static_cast<uint64_t>(*d));
    append(header, static_cast<uint32_t>(e.type->ggml_id));
    append(header, static_cast<uint64_t>(offset));
    offset += (e.bytes + kWriteAlignment - 1) / kWriteAlignment * kWriteAlignment;
  }
  SONDE_TRY(file_, OutputFile::create(path));
  SONDE_CHECK(file_->write(header));
  return pad();
}

Status GgufWriter::pad() {
  return file_->zeros((kWriteAlignment - file_->position() % kWriteAlignment) % kWriteAlignment);
}

Status GgufWriter::write(std::span<const std::byte> bytes) {
  written_ += static_cast<int64_t>(bytes.size());
  if (current_ >= entries_.size() || written_ > entries_[current_].bytes) {
    return file_error(Code::kInternal, file_->path(), "more bytes than were declared");
  }
  SONDE_CHECK(file_->write(bytes));
  if (written_ < entries_[current_].bytes) return {};
  ++current_;
  written_ = 0;
  return pad();
}

Status GgufWriter::finish() {
  if (current_ != entries_.size()) return file_error(Code::kInternal, file_->path(), "fewer bytes than were declared");
  return file_->commit();
}

}  // namespace sonde
