// Flags and positionals of a command, on CLI11. Only args.cpp includes CLI11, which costs seconds in every file that
// does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace sonde {

// The variables given must live as long as the parsing. Names as CLI11 wants them: "--threads" or "-t,--threads".
class Args {
 public:
  explicit Args(CLI::App& app) : app_(app) {}

  void flag(const char* names, bool& value, const char* help);
  void option(const char* names, std::string& value, const char* help);
  void option(const char* names, int& value, const char* help);
  void option(const char* names, int64_t& value, const char* help);
  void option(const char* names, double& value, const char* help);
  void option(const char* names, std::optional<std::string>& value, const char* help);
  void option(const char* names, std::optional<int>& value, const char* help);
  void option(const char* names, std::optional<int64_t>& value, const char* help);
  void option(const char* names, std::optional<uint64_t>& value, const char* help);
  void option(const char* names, std::optional<double>& value, const char* help);
  void repeated(const char* names, std::vector<std::string>& values, const char* help);  // may be given several times
  void list(const char* names, std::vector<int64_t>& values, const char* help);  // "1,2,3"; replaces the default
  void positional(const char* name, std::string& value, const char* help);       // may be left out
  void positional(const char* name, std::optional<std::string>& value, const char* help);

  // Options declared from here on stand under this title in --help.
  void group(const char* title) { group_ = title; }

 private:
  CLI::App& app_;
  std::string group_ = "Options";
};

}  // namespace sonde
