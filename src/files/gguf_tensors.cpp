#include "files/gguf_tensors.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "files/bounds.h"
#include "files/error.h"
#include "files/names.h"

namespace sonde {
namespace {

using Tensors = std::map<std::string, Tensor, std::less<>>;

constexpr int64_t kMaxExperts = 4096;
constexpr int64_t kMaxParts = 99999;  // five digits in a part's name

Status add(Tensors& out, std::string name, Tensor tensor, const std::string& where) {
  const auto [at, fresh] = out.emplace(std::move(name), std::move(tensor));
  if (!fresh) return corrupt(where, "two tensors have the same name", {}, at->first);
  return {};
}

// [experts, rows, cols] -> one [rows, cols] for each expert.
Status add_experts(const std::string& name, const Tensor& stacked, const nlohmann::json& config,
                   const std::string& where, Tensors& out) {
  const int64_t experts = stacked.dim(0);
  const int64_t expected =
      config.is_object() ? config.value("n_routed_experts", config.value("num_local_experts", int64_t{0})) : 0;
  if (stacked.shape.size() != 3 || experts != expected || experts > kMaxExperts) {
    return corrupt(where, "not a stack of experts",
                   fmt::format("[{}, rows, columns], at most {} experts", expected, kMaxExperts),
                   shape_text(stacked.shape));
  }
  const auto brace = name.find("{}");
  const std::size_t bytes = stacked.bytes.size() / static_cast<std::size_t>(experts);
  for (int64_t e = 0; e < experts; ++e) {
    Tensor one{stacked.type,
               {stacked.shape[1], stacked.shape[2]},
               stacked.bytes.subspan(static_cast<std::size_t>(e) * bytes, bytes)};
    SONDE_CHECK(
        add(out, fmt::format("{}{}{}", name.substr(0, brace), e, name.substr(brace + 2)), std::move(one), where));
  }
  return {};
}

// k_b [rank * heads, nope] and v_b [v * heads, rank], as some converters write them, hold the same bytes as the 3-D
// forms.
Status split_heads(Tensor& tensor, const nlohmann::json& config, const std::string& where) {
  const int64_t heads = config.is_object() ? config.value("num_attention_heads", int64_t{0}) : 0;
  if (tensor.shape.size() == 2 && heads > 0 && tensor.shape[0] % heads == 0) {
    tensor.shape = {heads, tensor.shape[0] / heads, tensor.shape[1]};
  }
  if (tensor.shape.size() != 3 || tensor.shape[0] != heads) {
    return corrupt(where, "not one matrix for each head", fmt::format("[{}, rows, columns]", heads),
                   shape_text(tensor.shape));
  }
  return {};
}

struct PartName {
  std::string stem;  // up to "-00001"
  int64_t number = 0, count = 0;
};

// Reads "STEM-00002-of-00005.gguf".
std::optional<PartName> part_name(const std::string& path) {
  constexpr std::size_t kTail = sizeof("-00001-of-00003.gguf") - 1;
  if (path.size() < kTail || !path.ends_with(".gguf")) return std::nullopt;
  const std::string tail = path.substr(path.size() - kTail);
  const auto digits = [&](std::size_t at) -> int64_t {
    int64_t n = 0;
    for (std::size_t i = at; i < at + 5; ++i) {
      if (tail[i] < '0' || tail[i] > '9') return -1;
      n = n * 10 + (tail[i] - '0');
    }
    return n;
  };
  if (tail[0] != '-' || tail.substr(6, 4) != "-of-" || digits(1) < 0 || digits(10) < 0) return std::nullopt;
  return PartName{path.substr(0, path.size() - kTail), digits(1), digits(10)};
}

int64_t integer(const Gguf& file, std::string_view key, int64_t otherwise) {
  const GgufValue* value = file.find(key);
  return value == nullptr ? otherwise : value->integer().value_or(-1);
}

}  // namespace

Status add_gguf_tensors(const Gguf& file, const nlohmann::json& config, const std::string& where, Tensors& out) {
  for (const Gguf::Entry& entry : file.tensors) {
    const std::string name = hf_name(entry.name), here = fmt::format("{}: {}", where, entry.name);
    if (name.find("{}") != std::string::npos && name != entry.name) {
      SONDE_CHECK(add_experts(name, entry.tensor, config, here, out));
      continue;
    }
    Tensor tensor = entry.tensor;
    if (name.ends_with(".self_attn.k_b_proj.weight") || name.ends_with(".self_attn.v_b_proj.weight")) {
      SONDE_CHECK(split_heads(tensor, config, here));
    }
    SONDE_CHECK(add(out, name, std::move(tensor), here));
  }
  return {};
}

Result<std::vector<Gguf>> open_gguf_set(const std::string& path) {
  std::vector<Gguf> parts;
  SONDE_TRY(Gguf first, open_gguf(path));
  const int64_t count = integer(first, "split.count", 1), number = integer(first, "split.no", 0);
  const int64_t tensors = integer(first, "split.tensors.count", -1);
  parts.push_back(std::move(first));
  if (count <= 1 && number == 0) return parts;
  if (number != 0) {
    return file_error(Code::kInvalid, path, "not the first of several files", "the file that ends in -00001-of-...", {},
                      "open the first; the others are found beside it");
  }
  const auto name = part_name(path);
  if (!name || name->number != 1 || name->count != count || count > kMaxParts) {
    return file_error(Code::kInvalid, path, "the name does not say where the other files are",
                      fmt::format("a name that ends in -00001-of-{:05}.gguf", count));
  }
  std::size_t total = parts[0].tensors.size();
  for (int64_t i = 1; i < count; ++i) {
    const std::string part = fmt::format("{}-{:05}-of-{:05}.gguf", name->stem, i + 1, count);
    SONDE_TRY(Gguf next, open_gguf(part));
    if (integer(next, "split.no", -1) != i || integer(next, "split.count", -1) != count) {
      return corrupt(part, "not the part that its name says", fmt::format("part {} of {}", i, count),
                     fmt::format("part {} of {}", integer(next, "split.no", -1), integer(next, "split.count", -1)));
    }
    total += next.tensors.size();
    parts.push_back(std::move(next));
  }
  if (tensors >= 0 && static_cast<std::size_t>(tensors) != total) {
    return corrupt(path, "the files do not hold all tensors", fmt::format("{}", tensors), fmt::format("{}", total));
  }
  return parts;
}

}  // namespace sonde
