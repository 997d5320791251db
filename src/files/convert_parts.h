// Pieces that both directions of convert.h share.
#pragma once

#include <cstddef>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "files/checkpoint.h"
#include "files/gguf.h"
#include "sonde/result.h"
#include "tensor/tensor.h"

namespace sonde {

using TensorBytes = std::vector<std::byte>;
using Sink = std::function<Status(std::span<const std::byte>)>;

// A tensor to be written: what it is, and how its bytes come.
struct PlannedTensor {
  std::string name;
  const Type* type = nullptr;
  std::vector<int64_t> shape;
  std::function<Status(const Sink&)> emit;
};

// Rows of q and k: halves (i, i + d/2) of each head to neighbours (2i, 2i + 1), or back.
TensorBytes pair_rows(const Tensor& tensor, int64_t heads, bool to_neighbours);
// kv_b [heads * (nope + v), rank] -> k_b [heads, rank, nope] and v_b [heads, v, rank], and back.
TensorBytes take_k_b(const Tensor& kv_b, int64_t heads, int64_t nope);
TensorBytes take_v_b(const Tensor& kv_b, int64_t heads, int64_t nope);
TensorBytes join_kv_b(const Tensor& k_b, const Tensor& v_b);
// Values in another plain type; empty when one of them is not exact there.
TensorBytes in_type(const Tensor& tensor, const Type& type);

// What llama3 rope scaling divides the frequencies by, [dim / 2].
std::vector<float> llama3_factors(double theta, int64_t dim, double factor, double low, double high, double original);

// tokenizer.ggml.* from a folder's tokenizer files; without any, the ids of config.json alone.
Status add_vocabulary(const Checkpoint& checkpoint, int64_t vocab_size, GgufWriter& writer);
// tokenizer.json and tokenizer_config.json from a GGUF vocabulary.
Result<nlohmann::json> tokenizer_json(const Checkpoint& checkpoint);
Result<nlohmann::json> tokenizer_config_json(const Checkpoint& checkpoint);

}  // namespace sonde
