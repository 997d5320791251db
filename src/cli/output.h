// What a command says: results on stdout, everything else on stderr, and its exit code.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "sonde/result.h"

namespace sonde {

inline constexpr int kOk = 0;             // done; JSON-lines commands also where single lines hold {"error"}
inline constexpr int kFailure = 1;        // the file, the model or the machine said no
inline constexpr int kUsage = 2;          // the command line itself is wrong
inline constexpr int kInterrupted = 130;  // Ctrl-C, as shells count it

// Errors as JSON from here on (set by main when --json is on the command line).
void errors_as_json(bool on);
// One line "sonde: ..." on stderr, or {"error": {"code", "message", "where", "expected", "found", "hint"}}. Returns
// kFailure.
int fail(const Error& error);
// The same for a mistake in the command line. Returns kUsage.
int usage_error(const std::string& message);
// What a command's work came to, as an exit code; its error is said. Errors at kCommandLine are usage errors.
inline constexpr std::string_view kCommandLine = "command line";
int finish(const Result<int>& result);
// A line for the person who started this; stderr.
void notice(const std::string& text);

nlohmann::ordered_json error_json(const Error& error);

// Results, on stdout. JSON is one line; bytes that are no UTF-8 become U+FFFD in it.
void print(std::string_view text);
void print_line(const nlohmann::ordered_json& value);
void flush();
std::string dump(const nlohmann::ordered_json& value);

// Without line ends and other control characters: names from files must not steer a terminal.
std::string one_line(std::string_view text);

bool stdout_is_terminal();
bool stderr_is_terminal();

// "4.81 M", "671 B"; "1.5 GiB"; "12 s", "3 min 20 s".
std::string count_text(double count);
std::string bytes_text(double bytes);
std::string seconds_text(double seconds);

}  // namespace sonde
