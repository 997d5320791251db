// Records of tests/golden/chat.
#pragma once

#include <gtest/gtest.h>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "support/assets.h"
#include "text/dialect.h"

namespace sonde::test {

inline std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  std::stringstream all;
  all << in.rdbuf();
  return all.str();
}

inline std::vector<OrderedJson> chat_records(const std::string& file) {
  std::vector<OrderedJson> records;
  std::istringstream lines(read_text(golden("chat/" + file)));
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty()) records.push_back(OrderedJson::parse(line));
  }
  EXPECT_FALSE(records.empty()) << file;
  return records;
}

inline Conversation conversation_of(const OrderedJson& record) {
  Conversation conversation;
  conversation.messages = record["messages"];
  conversation.tools = record["tools"];
  if (record.contains("thinking")) conversation.thinking = record["thinking"].get<bool>();
  conversation.add_generation_prompt = record["add_generation_prompt"];
  return conversation;
}

}  // namespace sonde::test
