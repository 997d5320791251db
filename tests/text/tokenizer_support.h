// Opens the vocabularies that the goldens were made with.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "files/checkpoint.h"
#include "support/assets.h"
#include "text/tokenizer.h"

namespace sonde::test {

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

inline std::vector<nlohmann::json> read_lines(const std::string& path) {
  std::vector<nlohmann::json> lines;
  std::ifstream file(path, std::ios::binary);
  for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

// A tokenizer with what its bytes lie in.
struct Opened {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Tokenizer> tokenizer;
};

inline Opened open_tokenizer(const std::string& path) {
  Opened out;
  auto checkpoint = Checkpoint::open(path);
  if (!checkpoint.ok()) {
    ADD_FAILURE() << checkpoint.error().message();
    return out;
  }
  out.checkpoint = std::move(checkpoint).value();
  auto tokenizer = Tokenizer::open(*out.checkpoint);
  if (!tokenizer.ok()) {
    ADD_FAILURE() << tokenizer.error().message();
    return out;
  }
  out.tokenizer = std::move(tokenizer).value();
  return out;
}

// From the text of a tokenizer.json alone.
inline Result<std::unique_ptr<Tokenizer>> from_json(const std::string& text, const std::string& config = "") {
  TokenizerSource source;
  source.tokenizer_json = text;
  source.tokenizer_config = config;
  return Tokenizer::open(source);
}

inline std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}

}  // namespace sonde::test
