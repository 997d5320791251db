#include "files/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>

#include "files/bounds.h"
#include "files/error.h"
#include "files/json.h"

namespace sonde {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxHeader = 100'000'000;  // the bound of the published reader
constexpr std::size_t kMaxDims = 16;

Result<uint64_t> header_length(std::span<const std::byte> bytes, const std::string& where) {
  if (bytes.size() < 8) {
    return corrupt(where, "too short for a safetensors file", "at least 8 bytes", fmt::format("{} bytes", bytes.size()),
                   "the download may be incomplete");
  }
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  if (length > kMaxHeader) {
    return corrupt(where, "the header is too long", fmt::format("at most {} bytes", kMaxHeader),
                   fmt::format("{} bytes", length), "this may not be a safetensors file");
  }
  if (length > bytes.size() - 8) {
    return corrupt(where, "the header reaches beyond the end of the file",
                   fmt::format("at most {} bytes", bytes.size() - 8), fmt::format("{} bytes", length),
                   "the download may be incomplete");
  }
  return length;
}

std::optional<int64_t> size_of(const Json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  const auto n = value.get<uint64_t>();
  if (n > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  return static_cast<int64_t>(n);
}

struct Range {
  int64_t begin = 0, end = 0;
  const std::string* name = nullptr;
};

Result<Tensor> read_entry(const Json& entry, std::span<const std::byte> data, const std::string& where, Range& range) {
  if (!entry.is_object()) return corrupt(where, "the entry is not an object");
  const auto dtype = entry.find("dtype"), shape = entry.find("shape"), offsets = entry.find("data_offsets");
  if (dtype == entry.end() || !dtype->is_string()) return corrupt(where, "the entry has no dtype");
  if (shape == entry.end() || !shape->is_array()) return corrupt(where, "the entry has no shape");
  if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2) {
    return corrupt(where, "the entry has no pair of data_offsets");
  }
  Tensor tensor;
  const auto& type_name = dtype->get_ref<const std::string&>();
  tensor.type = type_by_safetensors(type_name);
  if (tensor.type == nullptr) return file_error(Code::kUnsupported, where, "unknown dtype", {}, type_name);
  if (shape->size() > kMaxDims) {
    return corrupt(where, "too many dimensions", fmt::format("at most {}", kMaxDims), fmt::format("{}", shape->size()));
  }
  for (const Json& d : *shape) {
    const auto n = size_of(d);
    if (!n) return corrupt(where, "a dimension is not a size", {}, d.dump());
    tensor.shape.push_back(*n);
  }
  const auto begin = size_of((*offsets)[0]), end = size_of((*offsets)[1]);
  if (!begin || !end || *begin > *end) return corrupt(where, "impossible data_offsets", {}, offsets->dump());
  if (*end > static_cast<int64_t>(data.size())) {
    return corrupt(where, "the tensor reaches beyond the end of the file",
                   fmt::format("at most {} bytes of data", data.size()), fmt::format("{}", *end),
                   "the download may be incomplete");
  }
  SONDE_TRY(const int64_t bytes, tensor_bytes(*tensor.type, tensor.shape, where));
  if (bytes != *end - *begin) {
    return corrupt(where, "shape and data_offsets disagree",
                   fmt::format("{} bytes for {} {}", bytes, type_name, shape_text(tensor.shape)),
                   fmt::format("{} bytes", *end - *begin));
  }
  tensor.bytes = data.subspan(static_cast<std::size_t>(*begin), static_cast<std::size_t>(bytes));
  range.begin = *begin;
  range.end = *end;
  return tensor;
}

// The format allows neither gaps nor overlaps nor bytes after the last tensor.
Status check_coverage(std::vector<Range>& ranges, int64_t data_bytes, const std::string& where) {
  std::sort(ranges.begin(), ranges.end(),
            [](const Range& a, const Range& b) { return a.begin != b.begin ? a.begin < b.begin : a.end < b.end; });
  int64_t at = 0;
  for (const Range& r : ranges) {
    if (r.begin != at) {
      return corrupt(fmt::format("{}: {}", where, *r.name),
                     r.begin < at ? "tensors overlap" : "there is a gap before the tensor",
                     fmt::format("offset {}", at), fmt::format("{}", r.begin));
    }
    at = r.end;
  }
  if (at != data_bytes) {
    return corrupt(where, "the tensors do not fill the file", fmt::format("{} bytes of data", at),
                   fmt::format("{} bytes", data_bytes));
  }
  return {};
}

}  // namespace

Result<Safetensors> parse_safetensors(std::span<const std::byte> bytes, const std::string& where) {
  SONDE_TRY(const uint64_t length, header_length(bytes, where));
  const std::string_view header(reinterpret_cast<const char*>(bytes.data()) + 8, length);
  const auto data = bytes.subspan(8 + length);
  if (header.empty() || header.front() != '{') return corrupt(where, "the header is not a JSON object");
  SONDE_TRY(const Json json, parse_json(header, where, true));
  if (!json.is_object()) return corrupt(where, "the header is not a JSON object");

  Safetensors out;
  out.header_bytes = 8 + length;
  std::vector<Range> ranges;
  for (const auto& [name, entry] : json.items()) {
    const std::string here = fmt::format("{}: {}", where, name);
    if (name == "__metadata__") {
      if (!entry.is_object()) return corrupt(here, "the metadata is not an object");
      for (const auto& [key, value] : entry.items()) {
        if (!value.is_string()) return corrupt(here, "a metadata value is not a text", {}, key);
        out.metadata[key] = value.get_ref<const std::string&>();
      }
      continue;
    }
    Range range;
    SONDE_TRY(Tensor tensor, read_entry(entry, data, here, range));
    range.name = &out.tensors.emplace(name, std::move(tensor)).first->first;
    ranges.push_back(range);
  }
  SONDE_CHECK(check_coverage(ranges, static_cast<int64_t>(data.size()), where));
  return out;
}

Result<Safetensors> open_safetensors(const std::string& path) {
  SONDE_TRY(auto file, MappedFile::open(path));
  SONDE_TRY(Safetensors out, parse_safetensors(file->bytes(), path));
  out.file = std::move(file);
  return out;
}

Result<std::map<std::string, std::string>> parse_safetensors_index(std::string_view text, const std::string& where) {
  SONDE_TRY(const Json json, parse_json(text, where, true));
  const auto weights = json.is_object() ? json.find("weight_map") : json.end();
  if (weights == json.end() || !weights->is_object()) return corrupt(where, "there is no weight_map");
  std::map<std::string, std::string> out;
  for (const auto& [name, value] : weights->items()) {
    if (!value.is_string()) return corrupt(where, "weight_map names no file", "a text", name);
    const auto& file = value.get_ref<const std::string&>();
    if (file.empty() || file == "." || file == ".." ||
        file.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) {
      return corrupt(where, "weight_map names a file outside the folder", "a plain file name", file);
    }
    out.emplace(name, file);
  }
  return out;
}

void SafetensorsWriter::declare(std::string name, const Type& type, std::vector<int64_t> shape) {
  entries_.push_back({std::move(name), &type, std::move(shape)});
}

Status SafetensorsWriter::begin(const std::string& path) {
  // Written by hand: the order of the entries is the order of the data, and a DOM would sort them.
  std::string header = "{";
  std::set<std::string_view> names;
  const auto quoted = [](const std::string& s) { return Json(s).dump(-1, ' ', false, Json::error_handler_t::replace); };
  if (!metadata_.empty()) {
    header += "\"__metadata__\":{";
    bool first = true;
    for (const auto& [key, value] : metadata_) {
      header += fmt::format("{}{}:{}", first ? "" : ",", quoted(key), quoted(value));
      first = false;
    }
    header += "}";
  }
  for (const Entry& e : entries_) {
    const std::string where = fmt::format("{}: {}", path, e.name);
    if (!is_utf8(e.name) || e.name == "__metadata__" || !names.insert(e.name).second) {
      return file_error(Code::kInvalid, where, "not a name for a tensor, or one that occurs twice");
    }
    if (e.type->safetensors.empty()) {
      return file_error(Code::kUnsupported, where, "safetensors has no such dtype", {}, std::string(e.type->name));
    }
    SONDE_TRY(const int64_t bytes, tensor_bytes(*e.type, e.shape, where));
    header +=
        fmt::format("{}{}:{{\"dtype\":\"{}\",\"shape\":{},\"data_offsets\":[{},{}]}}", header.size() > 1 ? "," : "",
                    quoted(e.name), e.type->safetensors, Json(e.shape).dump(), total_, total_ + bytes);
    total_ += bytes;
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  if (header.size() > kMaxHeader) return file_error(Code::kTooLarge, path, "too many tensors for one file");
  SONDE_TRY(file_, OutputFile::create(path));
  const uint64_t length = header.size();
  SONDE_CHECK(file_->write(std::as_bytes(std::span(&length, 1))));
  return file_->write(header);
}

Status SafetensorsWriter::write(std::span<const std::byte> bytes) {
  written_ += static_cast<int64_t>(bytes.size());
  return file_->write(bytes);
}

Status SafetensorsWriter::finish() {
  if (written_ != total_) {
    return file_error(Code::kInternal, file_->path(), "the tensors' bytes are not what was declared",
                      fmt::format("{}", total_), fmt::format("{}", written_));
  }
  return file_->commit();
}

Status write_safetensors(const std::string& path, std::vector<TensorToWrite> tensors,
                         const std::map<std::string, std::string>& metadata) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorToWrite& a, const TensorToWrite& b) {
    const int x = a.tensor.type->bytes, y = b.tensor.type->bytes;
    return x != y ? x > y : a.name < b.name;
  });
  SafetensorsWriter writer;
  for (const auto& [key, value] : metadata) writer.set_metadata(key, value);
  for (const TensorToWrite& t : tensors) writer.declare(t.name, *t.tensor.type, t.tensor.shape);
  SONDE_CHECK(writer.begin(path));
  for (const TensorToWrite& t : tensors) SONDE_CHECK(writer.write(t.tensor.bytes));
  return writer.finish();
}

}  // namespace sonde
