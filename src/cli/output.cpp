#include "cli/output.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace sonde {
namespace {

bool json_errors = false;

const char* code_name(Code code) {
  switch (code) {
    case Code::kInvalid:
      return "invalid";
    case Code::kCorrupt:
      return "corrupt";
    case Code::kNotFound:
      return "not_found";
    case Code::kUnsupported:
      return "unsupported";
    case Code::kTooLarge:
      return "too_large";
    case Code::kIo:
      return "io";
    case Code::kCancelled:
      return "cancelled";
    case Code::kInternal:
      return "internal";
  }
  return "internal";
}

void to_stderr(const std::string& line) {
  std::fflush(stdout);
  // On a terminal a progress line may stand where this goes.
  std::fprintf(stderr, "%s%s\n", stderr_is_terminal() ? "\r\033[K" : "", line.c_str());
}

}  // namespace

std::string one_line(std::string_view text) {
  std::string line;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f)
      line += byte == '\n' ? ' ' : '?';
    else
      line += c;
  }
  return line;
}

void errors_as_json(bool on) { json_errors = on; }

nlohmann::ordered_json error_json(const Error& error) {
  nlohmann::ordered_json json = {{"code", code_name(error.code)}, {"message", error.message()}};
  const auto add = [&](const char* key, const std::string& text) {
    if (!text.empty()) json[key] = text;
  };
  add("where", error.where);
  add("expected", error.expected);
  add("found", error.found);
  add("hint", error.hint);
  return json;
}

int fail(const Error& error) {
  to_stderr(json_errors ? dump({{"error", error_json(error)}}) : "sonde: " + one_line(error.message()));
  return error.code == Code::kCancelled ? kInterrupted : kFailure;
}

int usage_error(const std::string& message) {
  to_stderr(json_errors ? dump({{"error", {{"code", "usage"}, {"message", message}}}}) : "sonde: " + one_line(message));
  return kUsage;
}

int finish(const Result<int>& result) {
  if (result.ok()) return result.value();
  if (result.error().where != kCommandLine) return fail(result.error());
  Error error = result.error();
  error.where.clear();
  return usage_error(error.message());
}

void notice(const std::string& text) { to_stderr("sonde: " + one_line(text)); }

void print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

std::string dump(const nlohmann::ordered_json& value) {
  return value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

void print_line(const nlohmann::ordered_json& value) { print(dump(value) + "\n"); }

void flush() { std::fflush(stdout); }

bool stdout_is_terminal() {
  static const bool is = isatty(STDOUT_FILENO) == 1;
  return is;
}
bool stderr_is_terminal() {
  static const bool is = isatty(STDERR_FILENO) == 1;
  return is;
}

std::string count_text(double count) {
  if (count < 1e3) return fmt::format("{:.0f}", count);
  if (count < 1e6) return fmt::format("{:.3g} K", count / 1e3);
  if (count < 1e9) return fmt::format("{:.3g} M", count / 1e6);
  return fmt::format("{:.3g} B", count / 1e9);
}

std::string bytes_text(double bytes) {
  if (bytes < 1024) return fmt::format("{:.0f} bytes", bytes);
  const char* units[] = {"KiB", "MiB", "GiB", "TiB"};
  int unit = -1;
  while (bytes >= 1024 && unit < 3) bytes /= 1024, ++unit;
  return fmt::format("{:.{}f} {}", bytes, bytes < 10 ? 2 : bytes < 100 ? 1 : 0, units[unit]);
}

std::string seconds_text(double seconds) {
  if (!(seconds >= 0) || !std::isfinite(seconds)) return "?";
  if (seconds < 1) return fmt::format("{:.0f} ms", seconds * 1e3);
  if (seconds < 10) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<long long>(seconds + 0.5);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

}  // namespace sonde
