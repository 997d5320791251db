#include "model/packed_weights.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/memory.h"
#include "files/map.h"
#include "kernels/pack.h"

namespace sonde {
namespace {

constexpr int64_t kSegment = int64_t{256} << 20;
constexpr int64_t kPage = 4096;  // each matrix begins at one

int64_t whole_pages(int64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

}  // namespace

PackedWeights::~PackedWeights() {
  for (const Segment& s : segments_) munmap(s.base, s.size);
}

Result<std::byte*> PackedWeights::take(int64_t bytes) {
  bytes = whole_pages(bytes);
  if (segments_.empty() || used_ + bytes > int64_t(segments_.back().size)) {
    const std::size_t size = std::size_t(std::max(bytes, kSegment));
    void* base = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
      return Error{Code::kTooLarge, "memory for the packed weights cannot be reserved", "model",
                   std::to_string(size) + " bytes", std::strerror(errno), "use --exact, or a smaller file"};
    madvise(base, size, MADV_HUGEPAGE);
    segments_.push_back({static_cast<std::byte*>(base), size});
    used_ = 0;
  }
  std::byte* at = segments_.back().base + used_;
  used_ += bytes, bytes_ += bytes;
  return at;
}

Status PackedWeights::add(Matrix& w) {
  const int64_t bytes = packed_bytes(w);
  if (bytes == 0) return {};
  SONDE_TRY(std::byte* at, take(bytes));
  SONDE_CHECK(pack(pool_, w, at));
  advise({w.data, std::size_t(w.bytes())}, Advice::kDone);
  return {};
}

Result<Matrix> PackedWeights::add_values(const float* values, int64_t rows, int64_t cols) {
  const Type* type = type_by_name("Q8_0");
  AlignedVector<std::byte> stored;
  stored.resize(std::size_t(rows * type->row_bytes(cols)));
  type->pack(values, rows * cols / type->block, stored.data());
  Matrix m;
  m.type = type, m.data = stored.data(), m.rows = rows, m.cols = cols, m.row_bytes = type->row_bytes(cols);
  SONDE_TRY(std::byte* at, take(packed_bytes(m)));
  SONDE_CHECK(pack(pool_, m, at));
  m.data = at;  // not as stored: nothing may unpack it
  return m;
}

}  // namespace sonde
