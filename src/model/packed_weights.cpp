#include "model/packed_weights.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "files/map.h"
#include "kernels/pack.h"

namespace sonde {
namespace {

constexpr int64_t kHalfPage = 2048;
constexpr int64_t kPiece = int64_t{4} << 20;   // packed at once on the way to a file
constexpr int64_t kAhead = int64_t{64} << 20;  // of the source, asked for before it is needed
constexpr int64_t kRows = 16;                  // of a strip

// What a matrix of so many bytes takes: an odd number of half pages, so that neighbours, a gate and its up, which are read
// together, never stand at the same place of a page. Where they do they are read more slowly.
int64_t room_for(int64_t bytes) { return ((bytes + kHalfPage - 1) / kHalfPage | 1) * kHalfPage; }

}  // namespace

PackedWeights::PackedWeights(Mode mode, std::unique_ptr<CacheFile> file, int threads)
    : mode_(mode), file_(std::move(file)) {
  if (mode != Mode::kCount && mode != Mode::kRead) pool_ = std::make_unique<ThreadPool>(threads);
  if (file_) base_ = file_->data(), limit_ = file_->bytes();
}

PackedWeights::~PackedWeights() {
  if (memory_ != nullptr) munmap(memory_, std::size_t(limit_));
}

std::unique_ptr<PackedWeights> PackedWeights::count() {
  return std::unique_ptr<PackedWeights>(new PackedWeights(Mode::kCount, nullptr, 0));
}
std::unique_ptr<PackedWeights> PackedWeights::in_file(const PackedWeights& counted, std::unique_ptr<CacheFile> file,
                                                      int threads) {
  std::unique_ptr<PackedWeights> packed(new PackedWeights(Mode::kWrite, std::move(file), threads));
  packed->stored_ = counted.stored_;
  return packed;
}
std::unique_ptr<PackedWeights> PackedWeights::from_file(std::unique_ptr<CacheFile> file) {
  return std::unique_ptr<PackedWeights>(new PackedWeights(Mode::kRead, std::move(file), 0));
}
std::unique_ptr<PackedWeights> PackedWeights::compare(std::unique_ptr<CacheFile> file, int threads) {
  return std::unique_ptr<PackedWeights>(new PackedWeights(Mode::kCompare, std::move(file), threads));
}

Result<std::unique_ptr<PackedWeights>> PackedWeights::in_memory(const PackedWeights& counted, int threads) {
  const int64_t bytes = counted.bytes();
  std::unique_ptr<PackedWeights> packed(new PackedWeights(Mode::kMemory, nullptr, threads));
  if (bytes == 0) return packed;
  void* base =
      mmap(nullptr, std::size_t(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED)
    return Error{Code::kTooLarge, "memory for the packed weights cannot be reserved", "model",
                 std::to_string(bytes) + " bytes", std::strerror(errno), "use --exact, or a smaller file"};
  prefer_huge_pages(base, std::size_t(bytes));
  packed->base_ = packed->memory_ = static_cast<std::byte*>(base), packed->limit_ = bytes;
  packed->stored_ = counted.stored_;
  return packed;
}

// The place of the next matrix, which is `stored` in the checkpoint.
Result<int64_t> PackedWeights::take(const Matrix& w, int64_t bytes, std::span<const std::byte> stored) {
  const int64_t at = bytes_;
  bytes = room_for(bytes);
  if (mode_ != Mode::kCount && bytes > limit_ - at)
    return Error{Code::kCorrupt, "the packed weights are more than was counted", file(),
                 std::to_string(limit_) + " bytes", "", ""};
  content_ += fmt::format("{} {} {} {}\n", w.type->name, w.rows, w.cols, bytes);
  bytes_ += bytes, ++matrices_;
  if (mode_ == Mode::kCount) stored_.push_back(stored);
  // The disk reads what comes next: sixteen rows at a time are no order in which the system would read ahead by itself.
  for (; asked_ < stored_.size() && packs() && ahead_ < kAhead; ++asked_) {
    advise(stored_[asked_], Advice::kWillNeed);
    ahead_ += int64_t(stored_[asked_].size());
  }
  ahead_ -= int64_t(stored.size());
  return at;
}

// Packs w to where it belongs, or compares.
Status PackedWeights::fill(const Matrix& w, int64_t at) {
  ++made_;
  if (mode_ == Mode::kMemory) return pack_rows(*pool_, w, 0, w.rows, memory_ + at);
  const int64_t bytes = packed_bytes(w), strip = bytes / ((w.rows + kRows - 1) / kRows);
  const int64_t rows = std::max<int64_t>(1, kPiece / strip) * kRows;
  for (int64_t first = 0; first < w.rows; first += rows) {
    const int64_t count = std::min(rows, w.rows - first), size = (count + kRows - 1) / kRows * strip;
    piece_.resize(std::size_t(std::max<int64_t>(size, int64_t(piece_.size()))));
    SONDE_CHECK(pack_rows(*pool_, w, first, count, piece_.data()));
    SONDE_CHECK(put(std::span(piece_).first(std::size_t(size)), at + first / kRows * strip));
  }
  return fill_room(bytes, at);
}

// The next bytes of the weights, which belong at `at`.
Status PackedWeights::put(std::span<const std::byte> bytes, int64_t at) {
  if (mode_ == Mode::kMemory) std::memcpy(memory_ + at, bytes.data(), bytes.size());
  if (mode_ == Mode::kCompare && std::memcmp(bytes.data(), base_ + at, bytes.size()) != 0)
    return Error{Code::kCorrupt, "the cache file holds other bytes than packing gives", file(), "",
                 fmt::format("in bytes {} to {} of the weights", at, at + int64_t(bytes.size()) - 1),
                 "remove it, and it is made again"};
  if (mode_ != Mode::kWrite) return {};
  Status written = file_->write(bytes);
  file_failed_ = !written.ok();
  return written;
}

// What follows a matrix of so many bytes, which stands at `at`, up to the next one: zeros, as new memory has them.
Status PackedWeights::fill_room(int64_t bytes, int64_t at) {
  static constexpr std::byte kZeros[2 * kHalfPage] = {};
  if (mode_ == Mode::kMemory) return {};
  return put(std::span(kZeros).first(std::size_t(room_for(bytes) - bytes)), at + bytes);
}

Status PackedWeights::add(Matrix& w) {
  if (packed_bytes(w) == 0) {
    if (!w || !w.type->is_quantised()) return {};
    checks_ = true;
    return packs() ? check_blocks(*pool_, w) : Status{};
  }
  SONDE_TRY(const int64_t at, take(w, packed_bytes(w), {w.data, std::size_t(w.bytes())}));
  if (mode_ == Mode::kCount) return {};
  if (packs()) {
    SONDE_CHECK(fill(w, at));
    advise({w.data, std::size_t(w.bytes())}, Advice::kDone);
  }
  use_packed(w, base_ + at);
  return {};
}

Result<Matrix> PackedWeights::add_values(int64_t rows, int64_t cols, bool to_bytes, const std::function<void(float*)>& make) {
  static constexpr std::byte kNothing{};
  Matrix m;
  m.type = to_bytes && cols % scaled_bytes()->block == 0 ? scaled_bytes() : f16();
  m.data = &kNothing, m.rows = rows, m.cols = cols, m.row_bytes = m.type->row_bytes(cols);
  const bool strips = packed_bytes(m) > 0;
  SONDE_TRY(const int64_t at, take(m, strips ? packed_bytes(m) : m.bytes(), {}));
  if (packs()) {
    AlignedVector<float> values(std::size_t(rows * cols));
    std::vector<std::byte> stored(std::size_t(m.bytes()));
    make(values.data());
    m.type->pack(values.data(), rows * cols / m.type->block, stored.data());
    if (strips) {
      Matrix source = m;
      source.data = stored.data();
      SONDE_CHECK(fill(source, at));
    } else {
      ++made_;
      SONDE_CHECK(put(stored, at));
      SONDE_CHECK(fill_room(m.bytes(), at));
    }
  }
  if (mode_ == Mode::kCount) return m;
  if (strips) use_packed(m, base_ + at);
  else m.data = base_ + at;
  return m;
}

Status PackedWeights::finish() {
  piece_ = {};
  pool_.reset();
  if (!file_) return {};
  const Digest content = sha256(content_);
  content_ = {};
  if (mode_ == Mode::kWrite) {
    Status written = file_->commit(uint32_t(matrices_), content);
    file_failed_ = !written.ok();
    return written;
  }
  if (bytes_ != file_->bytes() || !file_->holds(uint32_t(matrices_), content))
    return Error{Code::kCorrupt, "the cache file holds other matrices than the model", file(), "", "", ""};
  return {};
}

}  // namespace sonde
