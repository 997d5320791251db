// Runs the built program as a person would: arguments, standard input, exit code, both outputs.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "support/assets.h"
#include "support/sanitized.h"

namespace sonde::test {

using Json = nlohmann::ordered_json;

inline std::string mini() { return source("models/mini"); }

// A folder that goes with the test.
class Folder {
 public:
  Folder() {
    std::string name = std::filesystem::temp_directory_path() / "sonde-cli-XXXXXX";
    path_ = mkdtemp(name.data());
  }
  ~Folder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}
inline void write(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

inline std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> all;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) all.push_back(line);
  return all;
}

struct Ran {
  int code = -1;
  std::string out, err;

  Json json() const { return Json::parse(out); }
};

struct RunOptions {
  std::string input = {};  // what stands on standard input
  int64_t memory_kib = 0;  // ulimit -v
  std::string cache = {};  // SONDE_CACHE; empty: none
  // Sent as soon as something stands on standard output; 0: none.
  int signal_after_output = 0;
};

inline Ran run(std::vector<std::string> args, const RunOptions& options = {}) {
  const Folder folder;
  setenv("SONDE_CACHE", options.cache.c_str(), 1);
  write(folder / "in", options.input);
  args.insert(args.begin(), SONDE_PROGRAM);
  if (!kSanitized && options.memory_kib > 0) {
    const std::string script = "ulimit -v " + std::to_string(options.memory_kib) + "; exec \"$@\"";
    args.insert(args.begin(), {"/bin/sh", "-c", script, "sh"});
  }
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, (folder / "in").c_str(), O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, (folder / "out").c_str(), O_WRONLY | O_CREAT, 0600);
  posix_spawn_file_actions_addopen(&actions, 2, (folder / "err").c_str(), O_WRONLY | O_CREAT, 0600);
  pid_t child = 0;
  const int failed = posix_spawn(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  Ran ran;
  if (failed) return ran;
  if (options.signal_after_output) {
    for (int i = 0; i < 6000 && contents(folder / "out").empty(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    kill(child, options.signal_after_output);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ran.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  ran.out = contents(folder / "out");
  ran.err = contents(folder / "err");
  return ran;
}

// One line on stderr that begins with "sonde: ", nothing on stdout, this exit code.
inline void expect_one_error(const Ran& ran, int code, const std::string& part = "") {
  EXPECT_EQ(ran.code, code) << ran.err;
  EXPECT_EQ(ran.out, "");
  ASSERT_FALSE(ran.err.empty());
  EXPECT_EQ(ran.err.rfind("sonde: ", 0), 0u) << ran.err;
  EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1) << ran.err;
  EXPECT_NE(ran.err.find(part), std::string::npos) << ran.err;
}

}  // namespace sonde::test
