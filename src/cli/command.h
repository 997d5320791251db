// A command is one file, cmd_NAME.cpp, and one line in the table of main.cpp.
//
//   namespace { struct Options { std::string file; bool json = false; };
//   int run(const Options& options) { ... return kOk; }
//   Run setup(Args& args) {
//     auto options = std::make_shared<Options>();
//     args.option("--file", options->file, "what it is");
//     return [options] { return run(*options); };
//   } }
//   extern const Command cmd_example = {"example", "MODEL [--file F]", "one line for `sonde help`", "  sonde example
//   m.gguf\n", setup};
#pragma once

#include <functional>

#include "cli/args.h"
#include "cli/output.h"

namespace sonde {

using Run = std::function<int()>;  // gives the exit code: kOk, kFailure, kUsage (output.h)

struct Command {
  const char* name;
  const char* usage;         // what follows `sonde NAME` in --help
  const char* summary;       // one line, no full stop
  const char* examples;      // lines of "  sonde NAME ...", shown at the end of --help
  Run (*setup)(Args& args);  // declares flags and positionals; what it returns runs after they have been read
};

// The command line of the whole program; `argv` as main() has it.
int run_program(int argc, char** argv);

}  // namespace sonde
