// Shared by the tests of src/files.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "files/checkpoint.h"
#include "files/safetensors.h"
#include "support/assets.h"

namespace sonde::test {

// A folder that goes away with the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "sonde_files_XXXXXX").string();
    const char* made = ::mkdtemp(pattern.data());
    if (made != nullptr) path_ = made;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

inline void write_file(const std::string& path, std::string_view text) {
  std::ofstream out(path, std::ios::binary);
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
}

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

template <class T>
std::string why(const Result<T>& result) {
  return result.ok() ? "ok" : result.error().message();
}

// Same type, shape and bytes.
inline bool same(const Tensor& a, const Tensor& b) {
  return a.type == b.type && a.shape == b.shape && a.bytes.size() == b.bytes.size() &&
         std::memcmp(a.bytes.data(), b.bytes.data(), a.bytes.size()) == 0;
}

// Golden folders and files of one kind: in tests/golden, and with SONDE_ASSETS all of them.
inline std::vector<std::string> goldens(const std::string& folder, const std::string& extension) {
  std::vector<std::string> out;
  std::vector<std::string> roots = {golden(folder)};
  if (!assets().empty()) roots.insert(roots.begin(), assets() + "/golden/" + folder);
  for (const auto& entry : std::filesystem::directory_iterator(roots.front())) {
    const bool folder_wanted = extension.empty();
    if (folder_wanted ? entry.is_directory() : entry.path().extension() == extension)
      out.push_back(entry.path().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace sonde::test
