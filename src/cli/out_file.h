// --out FILE and --force: the file that a command writes.
#pragma once

#include <string>

#include "cli/args.h"
#include "sonde/result.h"

namespace sonde {

enum class FileKind { kGguf, kSafetensors };

struct OutFile {
  std::string path;
  bool force = false;

  void declare(Args& args, const char* names, const char* help);
  // What is there already is overwritten if it is empty or of the kind that is to be written; another file only with
  // --force. A folder or a device never is.
  Status check(FileKind kind) const;
};

}  // namespace sonde
