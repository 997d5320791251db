// Which of the places the packed weights go to.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "kernels/kernels.h"
#include "kernels/pack.h"
#include "model/model.h"
#include "model/packed_weights.h"

namespace sonde {
namespace {

std::string size(int64_t bytes) { return fmt::format("{:.2f} GiB", double(bytes) / double(int64_t{1} << 30)); }

}  // namespace

CacheFile::Key packed_key(const Checkpoint& checkpoint) {
  std::string text;
  for (const Checkpoint::WeightFile& file : checkpoint.weight_files())
    text += fmt::format("{} {} {}\n", file.bytes, file.modified, hex(sha256(file.header)));
  return {kPackedLayout, sha256(text)};
}

std::string packed_path(const Checkpoint& checkpoint, const std::string& folder) {
  namespace fs = std::filesystem;
  std::error_code failed;
  fs::path source = fs::weakly_canonical(checkpoint.path(), failed);
  if (failed) source = checkpoint.path();
  if (!source.has_filename()) source = source.parent_path();
  std::string name = source.stem().string().substr(0, 80);
  for (char& c : name)
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-')) c = '_';
  const std::string digest = hex(sha256(source.string())).substr(0, 16);
  return (fs::path(folder) / fmt::format("{}-{}.packed", name, digest)).string();
}

Result<std::unique_ptr<PackedWeights>> load_packed(const Checkpoint& checkpoint, const ModelOptions& options,
                                                   const std::function<Status(PackedWeights*)>& load) {
  const auto notice = [&](const std::string& line) {
    if (options.notice) options.notice(line);
  };
  const auto load_into = [&](PackedWeights* packed) -> Status {
    SONDE_CHECK(load(packed));
    return packed->finish();
  };
  const std::string path = options.cache.empty() ? "" : packed_path(checkpoint, options.cache);
  const CacheFile::Key key = path.empty() ? CacheFile::Key{} : packed_key(checkpoint);
  if (options.verify_cache) {
    auto file = path.empty() ? nullptr : CacheFile::find(path, key);
    if (!file)
      return Error{Code::kNotFound, "there is no sound cache file for this model as it is now", path, "", "",
                   "`sonde pack MODEL` makes it"};
    auto packed = PackedWeights::compare(std::move(file), options.threads);
    SONDE_CHECK(load_into(packed.get()));
    return packed;
  }
  if (!path.empty()) {
    if (auto file = CacheFile::find(path, key)) {
      auto packed = PackedWeights::from_file(std::move(file));
      if (load(packed.get()).ok() && packed->finish().ok()) return packed;  // else it is made again
    }
  }

  auto counted = PackedWeights::count();
  SONDE_CHECK(load(counted.get()));
  const int64_t bytes = counted->bytes();
  if (bytes == 0 && !counted->checks()) return counted;  // no weight has a packed form

  Status kept;
  if (!path.empty() && bytes > 0 && bytes >= options.cache_least) {
    auto file = CacheFile::create(path, key, bytes);
    if (file.ok()) {
      auto packed = PackedWeights::in_file(*counted, std::move(file).value(), options.threads);
      kept = load_into(packed.get());
      if (kept.ok()) {
        notice(fmt::format("the packed weights are kept for the next start: {} ({})", path, size(bytes)));
        return packed;
      }
      if (!packed->file_failed()) return kept.error();
    } else {
      kept = file.error();
    }
    notice("the packed weights cannot be kept for the next start: " + kept.error().message());
  }

  if (const int64_t available = memory_available(); bytes > available) {
    notice(fmt::format(
        "the packed weights ({}) do not fit into the memory that is free ({}): running on the weights as stored, which "
        "is slower; with room for a cache file `sonde pack` helps",
        size(bytes), size(available)));
    SONDE_CHECK(load(nullptr));
    return std::unique_ptr<PackedWeights>();
  }
  SONDE_TRY(auto packed, PackedWeights::in_memory(*counted, options.threads));
  SONDE_CHECK(load_into(packed.get()));
  return packed;
}

}  // namespace sonde
