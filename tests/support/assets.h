// Where tests find things: small goldens in tests/golden, real models through the variable SONDE_ASSETS.
#pragma once

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace sonde::test {

inline std::string golden(const std::string& path) { return std::string(SONDE_SOURCE_DIR) + "/tests/golden/" + path; }
inline std::string source(const std::string& path) { return std::string(SONDE_SOURCE_DIR) + "/" + path; }
// The folder of real models and large goldens; "" when SONDE_ASSETS is not set.
inline std::string assets() {
  const char* folder = std::getenv("SONDE_ASSETS");
  return folder ? folder : "";
}

// A golden file or folder: the copy in tests/golden, else the one among the assets; "" when neither is there.
inline std::string find_golden(const std::string& path) {
  if (std::filesystem::exists(golden(path))) return golden(path);
  if (!assets().empty() && std::filesystem::exists(assets() + "/golden/" + path)) return assets() + "/golden/" + path;
  return "";
}

// What the published implementation says of a golden checkpoint or GGUF file.
inline std::string expected_path(const std::string& name) {
  if (name.starts_with("models/")) return find_golden(name + "/expected.safetensors");
  if (name.find("-00001-of-") != std::string::npos) return find_golden("gguf/v2-lite-split.Q8_0.expected.safetensors");
  return find_golden(name.substr(0, name.size() - 5) + ".expected.safetensors");
}

// As GoogleTest wants the names of parameters: letters, digits and underscores.
inline std::string parameter_name(std::string text) {
  std::replace_if(text.begin(), text.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
  return text;
}

}  // namespace sonde::test

// Skips the test, and says so, where the real models are not at hand.
#define SONDE_NEEDS_ASSETS() \
  if (sonde::test::assets().empty()) GTEST_SKIP() << "SONDE_ASSETS is not set"
