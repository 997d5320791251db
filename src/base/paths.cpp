#include "base/paths.h"

#include <cstdlib>
#include <filesystem>
#include <system_error>

namespace sonde {

namespace fs = std::filesystem;

std::string embedded_model_for(const std::string& executable) {
  // Installed: PREFIX/bin/sonde. In the source tree: build/PRESET/sonde, build/PRESET/tests/X_test.
  const fs::path folder = fs::path(executable).parent_path();
  for (const char* relative : {"../share/sonde/models/mini", "../../models/mini", "../../../models/mini"}) {
    std::error_code failed;
    const fs::path model = (folder / relative).lexically_normal();
    if (fs::is_regular_file(model / "config.json", failed)) return model.string();
  }
  return "";
}

std::string embedded_model() {
  std::error_code failed;
  const fs::path executable = fs::read_symlink("/proc/self/exe", failed);
  return failed ? "" : embedded_model_for(executable.string());
}

std::string cache_folder() {
  if (const char* named = std::getenv("SONDE_CACHE")) return named;
  // An XDG path that is not absolute shall be passed over, says its specification.
  const char* xdg = std::getenv("XDG_CACHE_HOME");
  if (xdg != nullptr && *xdg == '/') return (fs::path(xdg) / "sonde").string();
  const char* home = std::getenv("HOME");
  return home != nullptr && *home == '/' ? (fs::path(home) / ".cache" / "sonde").string() : "";
}

}  // namespace sonde
