// The program `sonde`: finds the command, reads its flags, runs it.
#include <CLI/CLI.hpp>
#include <cctype>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "cli/command.h"

namespace sonde {

// One line a command, in the order of `sonde help`.
#define SONDE_COMMANDS(C) \
  C(ask)                  \
  C(chat)                 \
  C(serve)                \
  C(generate)             \
  C(inspect)              \
  C(plan)                 \
  C(bench)                \
  C(perplexity)           \
  C(logits)               \
  C(tokenize)             \
  C(detokenize)           \
  C(render)               \
  C(parse)                \
  C(convert)              \
  C(pack)                 \
  C(synth)

#define SONDE_DECLARE(name) extern const Command cmd_##name;
SONDE_COMMANDS(SONDE_DECLARE)

namespace {

#define SONDE_ENTRY(name) &cmd_##name,
const Command* const kCommands[] = {SONDE_COMMANDS(SONDE_ENTRY)};

int help(std::FILE* to) {
  std::fputs(
      "Sonde runs DeepSeek-class models on a CPU from the files as published: fast, or exactly with --exact.\n\n"
      "Usage: sonde COMMAND [flags]\n\nCommands:\n",
      to);
  for (const Command* command : kCommands) std::fprintf(to, "  %-12s %s\n", command->name, command->summary);
  std::fputs(
      "\n`sonde COMMAND --help` tells its flags, with examples; `sonde --version` the version.\n"
      "MODEL is a Hugging Face folder, a .gguf or .safetensors file, or the first of several.\n\n"
      "Examples:\n"
      "  sonde ask \"37 * 48\"\n"
      "  sonde chat DeepSeek-R1-Distill-Qwen-1.5B-Q4_K_M.gguf\n"
      "  sonde inspect DeepSeek-V2-Lite-Chat/\n",
      to);
  return kOk;
}

class HelpFormatter : public CLI::Formatter {
 public:
  explicit HelpFormatter(const Command& command) : command_(command) { column_width(30); }
  std::string make_usage(const CLI::App*, std::string) const override {
    return std::string("Usage: sonde ") + command_.name + " " + command_.usage + "\n";
  }
  std::string make_footer(const CLI::App*) const override { return std::string("\nExamples:\n") + command_.examples; }
  // Only the name: CLI11 would add "TEXT" and the like to every line.
  std::string make_option_opts(const CLI::Option* option) const override {
    if (option->get_items_expected_max() == 0 || option->get_positional()) return "";
    return option->get_type_name().empty() ? " VALUE" : " " + option->get_type_name();
  }

 private:
  const Command& command_;
};

int run_command(const Command& command, int argc, char** argv) {
  std::string summary = command.summary;
  summary.front() = static_cast<char>(std::toupper(static_cast<unsigned char>(summary.front())));
  CLI::App app(summary + ".");
  app.name(std::string("sonde ") + command.name);
  app.formatter(std::make_shared<HelpFormatter>(command));
  app.set_help_flag("-h,--help", "this text");
  app.get_formatter()->column_width(30);
  Args args(app);
  const Run run = command.setup(args);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    print(app.help());
    return kOk;
  } catch (const CLI::ParseError& error) {
    return usage_error(std::string(error.what()) + "; see `sonde " + command.name + " --help`");
  }
  return run();
}

}  // namespace

int run_program(int argc, char** argv) {
  for (int i = 1; i < argc && std::strcmp(argv[i], "--") != 0; ++i)
    if (std::strcmp(argv[i], "--json") == 0) errors_as_json(true);
  const std::string_view name = argc > 1 ? argv[1] : "";
  if (name == "--version" || name == "-V" || name == "version") {
    std::puts("sonde " SONDE_VERSION);
    return kOk;
  }
  if (name == "--help" || name == "-h" || (name == "help" && argc == 2)) return help(stdout);
  if (name.empty()) {
    help(stderr);
    return kUsage;
  }
  if (name == "help") {  // sonde help COMMAND
    static char flag[] = "--help";
    std::swap(argv[1], argv[2]);
    argv[2] = flag;
    return run_program(3, argv);
  }
  for (const Command* command : kCommands)
    if (name == command->name) return run_command(*command, argc - 1, argv + 1);
  return usage_error("there is no command \"" + std::string(name) + "\"; `sonde help` lists them");
}

}  // namespace sonde

int main(int argc, char** argv) {
  int code = sonde::kFailure;
  try {
    code = sonde::run_program(argc, argv);
  } catch (const std::bad_alloc&) {
    code = sonde::fail(
        {.code = sonde::Code::kTooLarge, .what = "out of memory", .hint = "`sonde plan` tells what a model needs"});
  } catch (const std::exception& error) { code = sonde::fail({.code = sonde::Code::kInternal, .what = error.what()}); }
  if (std::fflush(stdout) != 0 || std::ferror(stdout))
    return sonde::fail(
        {.code = sonde::Code::kIo, .what = "the result could not be written", .where = "standard output"});
  return code;
}
