#include "cli/args.h"

#include <CLI/CLI.hpp>
#include <charconv>

namespace sonde {
namespace {

template <class T>
void add(CLI::App& app, const std::string& group, const char* names, T& value, const char* help) {
  app.add_option(names, value, help)->group(group);
}

template <class T>
void add_optional(CLI::App& app, const std::string& group, const char* names, std::optional<T>& value,
                  const char* help) {
  app.add_option_function<T>(names, [&value](const T& given) { value = given; }, help)->group(group);
}

}  // namespace

void Args::flag(const char* names, bool& value, const char* help) { app_.add_flag(names, value, help)->group(group_); }

void Args::option(const char* names, std::string& value, const char* help) { add(app_, group_, names, value, help); }
void Args::option(const char* names, int& value, const char* help) { add(app_, group_, names, value, help); }
void Args::option(const char* names, int64_t& value, const char* help) { add(app_, group_, names, value, help); }
void Args::option(const char* names, double& value, const char* help) { add(app_, group_, names, value, help); }

void Args::option(const char* names, std::optional<std::string>& value, const char* help) {
  add_optional(app_, group_, names, value, help);
}
void Args::option(const char* names, std::optional<int>& value, const char* help) {
  add_optional(app_, group_, names, value, help);
}
void Args::option(const char* names, std::optional<int64_t>& value, const char* help) {
  add_optional(app_, group_, names, value, help);
}
void Args::option(const char* names, std::optional<uint64_t>& value, const char* help) {
  // CLI11 would take -1 for 2^64 - 1.
  app_.add_option_function<std::string>(
          names,
          [&value, names](const std::string& given) {
            uint64_t number = 0;
            const auto [end, error] = std::from_chars(given.data(), given.data() + given.size(), number);
            if (error != std::errc() || end != given.data() + given.size()) throw CLI::ConversionError(given, names);
            value = number;
          },
          help)
      ->group(group_)
      ->type_name("UINT");
}
void Args::option(const char* names, std::optional<double>& value, const char* help) {
  add_optional(app_, group_, names, value, help);
}

void Args::repeated(const char* names, std::vector<std::string>& values, const char* help) {
  // One value each time: CLI11 would let a list swallow the positionals behind it.
  app_.add_option_function<std::string>(
          names, [&values](const std::string& given) { values.push_back(given); }, help)
      ->group(group_)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->trigger_on_parse();
}

void Args::list(const char* names, std::vector<int64_t>& values, const char* help) {
  app_.add_option_function<std::string>(
          names,
          [&values, names](const std::string& given) {
            std::vector<int64_t> numbers;
            for (const std::string& part : CLI::detail::split(given, ',')) {
              int64_t number = 0;
              if (!CLI::detail::lexical_cast(part, number)) throw CLI::ConversionError(given, names);
              numbers.push_back(number);
            }
            values = std::move(numbers);
          },
          help)
      ->group(group_);
}

void Args::positional(const char* name, std::string& value, const char* help) { app_.add_option(name, value, help); }
void Args::positional(const char* name, std::optional<std::string>& value, const char* help) {
  app_.add_option_function<std::string>(name, [&value](const std::string& given) { value = given; }, help);
}

}  // namespace sonde
