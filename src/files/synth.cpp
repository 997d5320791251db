#include "files/synth.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/random.h"
#include "files/bounds.h"
#include "files/error.h"
#include "files/gguf.h"
#include "files/synth_shapes.h"
#include "files/synth_vocabulary.h"
#include "tensor/quant/mix.h"

namespace sonde {
namespace {

// Weights are drawn from a pool of packed chunks: packing each anew would take hours for the largest files. The first
// two chunks of a row spell its number, so that no row of a tensor repeats another.
constexpr int kPoolBits = 11;
constexpr int64_t kPool = int64_t{1} << kPoolBits;
constexpr int64_t kChunk = 64;  // values in a chunk, or one block where blocks are larger
constexpr std::size_t kPiece = std::size_t{1} << 20;

// A number of 2 * kPoolBits bits turned into another, one to one.
uint32_t scatter(uint32_t x) {
  constexpr uint32_t kMask = (uint32_t{1} << 2 * kPoolBits) - 1;
  x = x * 0x9E3779B1u & kMask;
  x ^= x >> kPoolBits;
  return x * 0x85EBCA77u & kMask;
}

class Pools {
 public:
  explicit Pools(uint64_t seed) : seed_(seed) {}

  struct Pool {
    std::vector<std::byte> bytes;
    std::size_t chunk_bytes = 0;
    int64_t chunk = 0;  // values
  };
  const Pool& of(const Type& type, double deviation) {
    Pool& pool = pools_[{type.name, deviation}];
    if (!pool.bytes.empty()) return pool;
    pool.chunk = std::max<int64_t>(type.block, kChunk);
    pool.chunk_bytes = static_cast<std::size_t>(type.row_bytes(pool.chunk));
    pool.bytes.resize(pool.chunk_bytes * kPool);
    Random random(seed_, pools_.size());
    std::vector<float> values(static_cast<std::size_t>(pool.chunk));
    for (int64_t i = 0; i < kPool; ++i) {
      for (float& v : values) v = static_cast<float>(random.normal() * deviation);
      type.pack(values.data(), pool.chunk / type.block,
                pool.bytes.data() + static_cast<std::size_t>(i) * pool.chunk_bytes);
    }
    return pool;
  }

 private:
  uint64_t seed_;
  std::map<std::pair<std::string_view, double>, Pool> pools_;
};

class Job {
 public:
  Job(const SynthOptions& options, const SynthShape& shape, const Mix& mix, int64_t layers)
      : options_(options), shape_(shape), mix_(mix), layers_(layers), pools_(options.seed) {
    if (!options.mtp) shape_.mtp_layers = 0;
  }

  Result<SynthReport> run() {
    set_shape_keys(shape_, layers_, writer_);
    writer_.set_text("general.name", fmt::format("{} (random weights)", shape_.name));
    writer_.set_u32("general.file_type", static_cast<uint32_t>(mix_.file_type));
    writer_.set_u32("general.quantization_version", 2);
    set_vocabulary_keys(shape_, writer_);
    const std::vector<SynthTensor> tensors = synth_tensors(shape_, layers_);
    for (const SynthTensor& t : tensors) {
      const Type& type = type_of(t);
      SONDE_TRY(const int64_t bytes, tensor_bytes(type, t.shape, t.name));
      total_ += bytes;
      int64_t count = 1;
      for (const int64_t d : t.shape) count *= d;
      parameters_ += count;
      writer_.declare(t.name, type, t.shape);
    }
    SONDE_CHECK(room());
    SONDE_CHECK(writer_.begin(options_.out));
    for (std::size_t i = 0; i < tensors.size(); ++i) SONDE_CHECK(fill(tensors[i], i));
    SONDE_CHECK(writer_.finish());
    return SynthReport{total_, parameters_, layers_};
  }

 private:
  const Type& type_of(const SynthTensor& t) const {
    const int64_t dims = static_cast<int64_t>(t.shape.size());
    return type_in_mix(mix_,
                       {t.name, dims, t.shape.back(), layers_, shape_.tied, shape_.latent ? shape_.latent->experts : 0,
                        shape_.heads / (shape_.latent ? 1 : shape_.key_heads)});
  }

  Status room() const {
    std::error_code error;
    std::filesystem::path folder = std::filesystem::path(options_.out).parent_path();
    if (folder.empty()) folder = ".";
    const auto space = std::filesystem::space(folder, error);
    if (error) return {};                         // creating the file will say what is wrong
    constexpr int64_t kRest = int64_t{16} << 20;  // vocabulary, table, padding
    if (static_cast<uintmax_t>(total_ + kRest) <= space.available) return {};
    return file_error(Code::kIo, options_.out, "the disk is too full for this file",
                      fmt::format("{} bytes free", total_ + kRest), fmt::format("{} bytes free", space.available),
                      "--layers N makes a smaller one");
  }

  Status put(std::span<const std::byte> bytes) {
    SONDE_CHECK(writer_.write(bytes));
    done_ += static_cast<int64_t>(bytes.size());
    if (options_.progress && !options_.progress(done_, total_))
      return file_error(Code::kCancelled, options_.out, "interrupted");
    return {};
  }

  Status fill(const SynthTensor& t, std::size_t number) {
    Random random(options_.seed, (uint64_t{1} << 32) + number);  // streams below are those of the pools
    if (t.shape.size() == 1) {
      std::vector<float> values(static_cast<std::size_t>(t.shape[0]), 1.0f);
      if (t.fill == SynthTensor::Fill::kRopeFactors) values = llama3_factors(shape_);
      if (t.fill == SynthTensor::Fill::kNormal) {
        for (float& v : values) v = static_cast<float>(random.normal() * t.deviation);
      }
      return put(std::as_bytes(std::span(values)));
    }
    const Type& type = type_of(t);
    const Pools::Pool& pool = pools_.of(type, t.deviation);
    const int64_t cols = t.shape.back();
    const bool drawn = cols % pool.chunk != 0 || cols / pool.chunk < 2;  // too short for chunks: each row by itself
    std::vector<float> values(static_cast<std::size_t>(drawn ? cols : 0));
    int64_t rows = 1;
    for (std::size_t d = 0; d + 1 < t.shape.size(); ++d) rows *= t.shape[d];
    const auto row_bytes = static_cast<std::size_t>(type.row_bytes(cols));
    const uint32_t start = random.next_u32();
    piece_.resize(std::max<std::size_t>(1, kPiece / row_bytes) * row_bytes);
    std::size_t used = 0;
    for (int64_t row = 0; row < rows; ++row) {
      if (drawn) {
        for (float& v : values) v = static_cast<float>(random.normal() * t.deviation);
        type.pack(values.data(), cols / type.block, piece_.data() + used);
        used += row_bytes;
      }
      const uint32_t spelt = scatter(start + static_cast<uint32_t>(row));
      for (int64_t c = 0; c < cols / pool.chunk && !drawn; ++c) {
        const uint32_t pick = c < 2 ? spelt >> c * kPoolBits : random.next_u32();
        const std::byte* chunk = pool.bytes.data() + (pick & (kPool - 1)) * pool.chunk_bytes;
        std::copy_n(chunk, pool.chunk_bytes, piece_.data() + used);
        used += pool.chunk_bytes;
      }
      if (used < piece_.size() && row + 1 < rows) continue;
      SONDE_CHECK(put(std::span(piece_).first(used)));
      used = 0;
    }
    return {};
  }

  const SynthOptions& options_;
  SynthShape shape_;
  const Mix& mix_;
  int64_t layers_;
  Pools pools_;
  GgufWriter writer_;
  std::vector<std::byte> piece_;
  int64_t total_ = 0, parameters_ = 0, done_ = 0;
};

Error unknown(const char* what, const std::string& found, const std::vector<std::string_view>& known) {
  return file_error(Code::kInvalid, "command line", what, fmt::format("one of {}", fmt::join(known, ", ")), found);
}

}  // namespace

std::vector<std::string_view> synth_shapes() {
  std::vector<std::string_view> names;
  for (const SynthShape& shape : all_synth_shapes()) names.push_back(shape.name);
  return names;
}

std::vector<std::string_view> synth_types() {
  std::vector<std::string_view> names;
  for (const Mix& mix : all_mixes()) names.push_back(mix.name);
  return names;
}

Result<SynthReport> write_synthetic(const SynthOptions& options) {
  const auto shapes = all_synth_shapes();
  const auto shape =
      std::find_if(shapes.begin(), shapes.end(), [&](const SynthShape& s) { return s.name == options.shape; });
  if (shape == shapes.end()) return unknown("unknown shape", options.shape, synth_shapes());
  const Mix* mix = mix_by_name(options.type);
  if (mix == nullptr) return unknown("unknown type", options.type, synth_types());
  const int64_t layers = options.layers.value_or(shape->layers);
  if (layers < 1 || layers > shape->layers)
    return file_error(Code::kInvalid, "command line", "no such number of layers", fmt::format("1 to {}", shape->layers),
                      fmt::format("{}", layers));
  return Job(options, *shape, *mix, layers).run();
}

}  // namespace sonde
