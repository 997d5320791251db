#include "base/cgroup.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <optional>
#include <sstream>
#include <string_view>

namespace sonde {
namespace {

bool contains_word(std::string_view list, std::string_view word) {  // comma-separated
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(','), list.size());
    if (list.substr(0, end) == word) return true;
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return false;
}

// Folders of this process's group and its parents for one controller, innermost first.
std::vector<std::string> folders(const std::string& root, std::string_view controller, bool v2) {
  std::string path;
  bool found = false;
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // hierarchy-id:controllers:path
    const std::size_t a = line.find(':'), b = a == std::string::npos ? a : line.find(':', a + 1);
    if (b == std::string::npos) continue;
    const std::string_view names = std::string_view(line).substr(a + 1, b - a - 1);
    if (v2 ? line.compare(0, 3, "0::") == 0 : contains_word(names, controller)) path = line.substr(b + 1), found = true;
  }
  if (!found) return {};

  std::vector<std::string> result;
  std::ifstream mounts(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {  // id parent device root mount options [tags] - type source super
    const std::size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream left(line.substr(0, dash)), right(line.substr(dash + 3));
    std::string skip, inside, mount, type, source, super;
    left >> skip >> skip >> skip >> inside >> mount;
    right >> type >> source >> super;
    if (v2 ? type != "cgroup2" : type != "cgroup" || !contains_word(super, controller)) continue;
    // A mount shows the hierarchy from `inside` on. A path outside it (another namespace's) leaves only the mount itself.
    std::string rest = path;
    if (inside != "/") rest = rest.compare(0, inside.size(), inside) == 0 ? rest.substr(inside.size()) : "";
    while (!rest.empty() && rest.back() == '/') rest.pop_back();
    if (rest.find("/..") != std::string::npos) rest.clear();
    for (;;) {
      result.push_back(root + mount + rest);
      if (rest.empty()) break;
      rest.resize(std::min(rest.rfind('/'), rest.size()));
    }
    break;
  }
  return result;
}

std::optional<std::string> first_line(const std::string& file) {
  std::ifstream in(file);
  std::string line;
  if (!std::getline(in, line)) return std::nullopt;
  return line;
}

std::optional<int64_t> number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) return kNoLimit;  // v1 says "none" as 2^63 rounded down to a page, or more
  if (error != std::errc{}) return std::nullopt;
  return value;
}

std::optional<int64_t> number_in(const std::string& file) {
  const auto line = first_line(file);
  return line ? number(*line) : std::nullopt;
}

int64_t field(const std::string& file, std::string_view name) {  // "name value" lines
  std::ifstream in(file);
  int64_t value = 0;
  for (std::string key; in >> key >> value;) {
    if (key == name) return value;
  }
  return 0;
}

constexpr int64_t kAbsurd = int64_t{1} << 60;  // v1's "no limit" is just below 2^63

}  // namespace

std::vector<CgroupMemory> cgroup_memory(const std::string& root) {
  std::vector<CgroupMemory> result;
  for (const std::string& folder : folders(root, "memory", true)) {
    const auto limit = number_in(folder + "/memory.max");  // "max": no number
    if (!limit || *limit >= kAbsurd) continue;
    const std::string stat = folder + "/memory.stat";
    const int64_t cache = field(stat, "active_file") + field(stat, "inactive_file");
    result.push_back({*limit, std::max<int64_t>(0, number_in(folder + "/memory.current").value_or(0) - cache)});
  }
  for (const std::string& folder : folders(root, "memory", false)) {
    const auto limit = number_in(folder + "/memory.limit_in_bytes");
    if (!limit || *limit >= kAbsurd) continue;
    const std::string stat = folder + "/memory.stat";
    const int64_t cache = field(stat, "total_active_file") + field(stat, "total_inactive_file");
    result.push_back({*limit, std::max<int64_t>(0, number_in(folder + "/memory.usage_in_bytes").value_or(0) - cache)});
  }
  return result;
}

int64_t cgroup_processors(const std::string& root) {
  int64_t least = kNoLimit;
  const auto limit = [&](std::optional<int64_t> quota, std::optional<int64_t> period) {
    if (!quota || !period || *quota <= 0 || *period <= 0 || *quota >= kAbsurd) return;
    least = std::min(least, (*quota - 1) / *period + 1);
  };
  for (const std::string& folder : folders(root, "cpu", true)) {
    const auto line = first_line(folder + "/cpu.max");  // "200000 100000" or "max 100000"
    const std::size_t space = line ? line->find(' ') : std::string::npos;
    if (space != std::string::npos) limit(number(line->substr(0, space)), number(line->substr(space + 1)));
  }
  for (const std::string& folder : folders(root, "cpu", false)) {
    limit(number_in(folder + "/cpu.cfs_quota_us"), number_in(folder + "/cpu.cfs_period_us"));
  }
  return least;
}

}  // namespace sonde
