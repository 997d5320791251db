// What the packed weights of whole files come to beside the bytes that these weights take in the file.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "files/checkpoint.h"
#include "files/synth_shapes.h"
#include "kernels/pack.h"
#include "model/model.h"
#include "support/zero_model.h"
#include "tensor/quant/mix.h"

namespace sonde::test {
namespace {

namespace fs = std::filesystem;

// Of the matrices that a model multiplies by.
struct Bytes {
  int64_t stored = 0, packed = 0, matrices = 0;  // those with a packed form
  int64_t in_place = 0;                          // the others
  int64_t turned = 0;                            // of keys turned round, which are kept beside them
};

// A matrix takes an odd number of half pages.
int64_t room(int64_t bytes) { return ((bytes + 2047) / 2048 | 1) * 2048; }

Bytes bytes_of(const SynthShape& shape, const Mix& mix, int64_t layers) {
  static constexpr std::byte kSomewhere{};
  Bytes sum;
  for (const SynthTensor& t : synth_tensors(shape, layers)) {
    if (t.shape.size() < 2 || (t.name == "token_embd.weight" && !shape.tied)) continue;
    Matrix m;
    m.type = &type_of(t, shape, mix, layers), m.data = &kSomewhere;
    m.rows = t.shape[t.shape.size() - 2], m.cols = t.shape.back(), m.row_bytes = m.type->row_bytes(m.cols);
    int64_t matrices = t.shape.size() > 2 ? t.shape[0] : 1;
    const bool keys = t.name.find("attn_k_b") != std::string::npos;
    if (keys) sum.turned += matrices * room(2 * m.rows * m.cols);  // in halves, each head by itself
    if (keys || t.name.find("attn_v_b") != std::string::npos) m.rows *= matrices, matrices = 1;  // all heads in one
    const int64_t packed = packed_bytes(m);
    (packed > 0 ? sum.stored : sum.in_place) += matrices * m.bytes();
    if (packed > 0) sum.packed += matrices * room(packed), sum.matrices += matrices;
  }
  return sum;
}

// As kLatent, of the other kind.
const SynthShape kDense{.name = "dense",
                        .architecture = "qwen2",
                        .layers = 2,
                        .hidden = 1024,
                        .intermediate = 2816,
                        .heads = 8,
                        .key_heads = 2,
                        .head_dim = 128,
                        .vocabulary = 2048,
                        .context = 4096,
                        .rope_base = 1e4,
                        .epsilon = 1e-6,
                        .biases = true,
                        .latent = {}};

// Files of zeros: the model takes what was reckoned, to the byte.
TEST(PackedSize, IsWhatAModelTakes) {
  const fs::path path = fs::temp_directory_path() / ("sonde-packed-size-" + std::to_string(::getpid()) + ".gguf");
  for (const SynthShape& shape : {kDense, kLatent}) {
    for (const Mix& mix : all_mixes()) {
      SCOPED_TRACE(std::string(shape.name) + " " + std::string(mix.name));
      write_zeros(path.string(), shape, mix, shape.layers);
      ASSERT_FALSE(HasFatalFailure());
      auto checkpoint = Checkpoint::open(path.string());
      ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message();
      const auto model = Model::load(std::move(checkpoint).value(), {.exact = false});
      ASSERT_TRUE(model.ok()) << model.error().message();
      const Bytes bytes = bytes_of(shape, mix, shape.layers);
      EXPECT_EQ((*model)->packed().bytes, bytes.packed + bytes.turned);
    }
  }
  fs::remove(path);
}

// Whole files of published models: what is packed, and all that is held with the turned keys.
TEST(PackedSize, IsAtMostThreeHundredthsMoreThanStored) {
  for (const SynthShape& shape : all_synth_shapes()) {
    for (const Mix& mix : all_mixes()) {
      SCOPED_TRACE(std::string(shape.name) + " " + std::string(mix.name));
      const Bytes bytes = bytes_of(shape, mix, shape.layers);
      EXPECT_EQ(bytes.packed > 0, mix.base != "F16" && mix.base != "BF16");
      if (shape.name == "mini") {  // matrices of a few pages: the room that each is rounded up to counts
        EXPECT_LE(double(bytes.packed), 1.03 * double(bytes.stored) + 4096 * double(bytes.matrices));
        continue;
      }
      EXPECT_LE(double(bytes.packed), 1.03 * double(bytes.stored));
      EXPECT_LE(double(bytes.packed + bytes.turned + bytes.in_place), 1.03 * double(bytes.stored + bytes.in_place));
    }
  }
}

}  // namespace
}  // namespace sonde::test
