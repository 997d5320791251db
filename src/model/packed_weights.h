// The packed forms of a model's weights (kernels/pack.h), one after the other in the order in which the model loads
// them: in memory, or in a cache file that the next start maps instead of packing again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/memory.h"
#include "base/threads.h"
#include "files/cache_file.h"
#include "files/checkpoint.h"
#include "sonde/result.h"
#include "tensor/tensor.h"

namespace sonde {

struct ModelOptions;

class PackedWeights {
 public:
  // Measures what the packed forms come to; the matrices stay as they are.
  static std::unique_ptr<PackedWeights> count();
  // Packs what was counted, into memory or into a new cache file.
  static Result<std::unique_ptr<PackedWeights>> in_memory(const PackedWeights& counted, int threads);
  static std::unique_ptr<PackedWeights> in_file(const PackedWeights& counted, std::unique_ptr<CacheFile> file,
                                                int threads);
  // Finds the packed forms in a file of an earlier start. `compare`: packs all the same, and compares every byte.
  static std::unique_ptr<PackedWeights> from_file(std::unique_ptr<CacheFile> file);
  static std::unique_ptr<PackedWeights> compare(std::unique_ptr<CacheFile> file, int threads);
  ~PackedWeights();
  PackedWeights(const PackedWeights&) = delete;
  PackedWeights& operator=(const PackedWeights&) = delete;

  // Packs w where its type has a packed form; else leaves it as it is. Where others are packed, the scales of such a
  // quantised one are checked, too. Errors: kCorrupt (a scale that is not finite, a file that holds something else), kIo and
  // kTooLarge (the file).
  Status add(Matrix& w);
  // A matrix of its own from F32 values [rows, cols] that `make` writes when they are needed, rounded to F16; with
  // `to_bytes` to bytes, of which the packed form alone is kept, where a row is whole blocks of them.
  Result<Matrix> add_values(int64_t rows, int64_t cols, bool to_bytes, const std::function<void(float*)>& make);
  // After the last: a new file gets its name; kCorrupt where an old one holds other matrices than these.
  Status finish();

  int64_t bytes() const { return bytes_; }          // taken so far
  int64_t matrices() const { return matrices_; }    // taken so far
  int64_t made() const { return made_; }            // of them packed by this object
  std::string file() const { return file_ ? file_->path() : ""; }
  bool packs() const { return pool_ != nullptr; }
  bool checks() const { return checks_; }           // some weights stay as stored whose scales packing checks
  // The file's bytes; empty: there is none.
  std::span<const std::byte> mapped() const { return {base_, file_ ? std::size_t(limit_) : 0}; }
  // Whether the file was the reason of an error, not the weights.
  bool file_failed() const { return file_failed_; }

 private:
  enum class Mode { kCount, kMemory, kWrite, kRead, kCompare };
  PackedWeights(Mode mode, std::unique_ptr<CacheFile> file, int threads);
  Result<int64_t> take(const Matrix& w, int64_t bytes, std::span<const std::byte> stored);
  Status put(std::span<const std::byte> bytes, int64_t at);
  Status fill_room(int64_t bytes, int64_t at);
  Status fill(const Matrix& w, int64_t at);

  const Mode mode_;
  std::unique_ptr<CacheFile> file_;
  std::unique_ptr<ThreadPool> pool_;  // null: nothing is packed
  const std::byte* base_ = nullptr;
  std::byte* memory_ = nullptr;       // kMemory: base_
  int64_t limit_ = 0;                 // bytes at base_
  int64_t bytes_ = 0, matrices_ = 0, made_ = 0;
  bool file_failed_ = false, checks_ = false;
  std::string content_;               // what was taken, a line a matrix
  AlignedVector<std::byte> piece_;
  std::vector<std::span<const std::byte>> stored_;  // the matrices' bytes, in order, as counted
  std::size_t asked_ = 0;                           // of these, asked for ahead of use
  int64_t ahead_ = 0;                               // bytes asked for and not used yet
};

// Where a checkpoint's packed weights are kept in a folder for such files.
std::string packed_path(const Checkpoint& checkpoint, const std::string& folder);
// Of the packed form's layout, and size, time and header of every weight file.
CacheFile::Key packed_key(const Checkpoint& checkpoint);

// Has `load` take a model's weights to where they shall be: the cache file of options.cache, a new one, memory. Null:
// there is room nowhere, and `load` was given null, so that the weights stay as stored. `load` may be called several
// times.
Result<std::unique_ptr<PackedWeights>> load_packed(const Checkpoint& checkpoint, const ModelOptions& options,
                                                   const std::function<Status(PackedWeights*)>& load);

}  // namespace sonde
