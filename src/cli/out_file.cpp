#include "cli/out_file.h"

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace sonde {
namespace {

// By its first bytes: "GGUF", or the length of a JSON header and the header's brace.
bool is_of(FileKind kind, const std::string& path) {
  char head[9] = {};
  std::ifstream(path, std::ios::binary).read(head, sizeof head);
  if (kind == FileKind::kGguf) return std::memcmp(head, "GGUF", 4) == 0;
  constexpr uint64_t kLongestHeader = 100'000'000;  // the format's own limit
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(head[i]);
  return length <= kLongestHeader && head[8] == '{';
}

}  // namespace

void OutFile::declare(Args& args, const char* names, const char* help) {
  args.option(names, path, help);
  args.flag("--force", force, "overwrite --out even if it is a file of another kind");
}

Status OutFile::check(FileKind kind) const {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) return {};  // or out of reach: creating it will say why
  const char* wanted = kind == FileKind::kGguf ? "a GGUF file, or no file yet" : "a safetensors file, or no file yet";
  if (!fs::is_regular_file(status))
    return Error{.code = Code::kInvalid,
                 .what = "--out cannot be written over",
                 .where = path,
                 .expected = wanted,
                 .found = fs::is_directory(status) ? "a folder" : "something that is no file"};
  if (force || fs::file_size(path, error) == 0 || is_of(kind, path)) return {};
  return Error{.code = Code::kInvalid,
               .what = "--out is there already, and is a file of another kind",
               .where = path,
               .expected = wanted,
               .hint = "--force overwrites it"};
}

}  // namespace sonde
