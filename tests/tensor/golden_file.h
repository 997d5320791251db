// A safetensors file held in memory, read with nothing of Sonde's own.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace sonde::test {

class GoldenFile {
 public:
  explicit GoldenFile(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    text_.assign(std::istreambuf_iterator<char>(in), {});
    uint64_t length = 0;
    if (text_.size() < 8) return;
    std::memcpy(&length, text_.data(), 8);
    header_ = nlohmann::json::parse(text_.substr(8, length));
    header_.erase("__metadata__");
    start_ = 8 + length;
  }
  const nlohmann::json& header() const { return header_; }
  bool has(const std::string& name) const { return header_.contains(name); }
  std::vector<int64_t> shape(const std::string& name) const { return header_.at(name).at("shape"); }
  template <class T>
  std::vector<T> values(const std::string& name) const {
    const auto offsets = header_.at(name).at("data_offsets").get<std::vector<uint64_t>>();
    std::vector<T> out((offsets[1] - offsets[0]) / sizeof(T));
    std::memcpy(out.data(), text_.data() + start_ + offsets[0], out.size() * sizeof(T));
    return out;
  }

 private:
  std::string text_;
  nlohmann::json header_;
  uint64_t start_ = 0;
};

}  // namespace sonde::test
