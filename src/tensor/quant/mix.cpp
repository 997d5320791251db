#include "tensor/quant/mix.h"

#include <charconv>
#include <utility>

namespace sonde {
namespace {

constexpr Mix kMixes[] = {
    {"F16", 1, "F16"},   {"BF16", 32, "BF16"},   {"Q8_0", 7, "Q8_0"},  {"Q6_K", 18, "Q6_K"},
    {"Q4_0", 2, "Q4_0"}, {"Q4_K_M", 15, "Q4_K"}, {"Q2_K", 10, "Q2_K"}, {"MXFP4", 38, "Q8_0"},
};

const Type& named(std::string_view name) { return *type_by_name(name); }

// "blk.12.attn_v.weight": layer 12, part "attn_v.weight". -1: not in a layer.
struct Place {
  int64_t layer = -1;
  std::string_view part;
};
Place place_of(std::string_view name) {
  Place place{-1, name};
  if (!name.starts_with("blk.")) return place;
  const char* end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + 4, end, place.layer);
  if (error != std::errc() || rest == end || *rest != '.') return {-1, name};
  place.part = std::string_view(rest + 1, static_cast<std::size_t>(end - rest - 1));
  return place;
}

// The first eighth, the last, and every third between.
bool wants_more(int64_t layer, int64_t layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

// What stands in where rows are not a multiple of the block.
const Type& fitting(const Type& type, int64_t cols) {
  if (cols % type.block == 0) return type;
  constexpr std::pair<std::string_view, std::string_view> kWider[] = {
      {"Q2_K", "Q4_0"}, {"Q3_K", "Q4_0"}, {"Q4_K", "Q5_0"}, {"Q5_K", "Q5_1"}};
  std::string_view stand_in = "Q8_0";
  for (const auto& [narrow, wide] : kWider) {
    if (type.name == narrow) stand_in = wide;
  }
  const Type& wider = named(stand_in);
  return cols % wider.block == 0 ? wider : *f16();
}

// The type of a matrix in a layer, before its width is looked at. Models of eight experts (Mixtral's number) get more
// for what is small beside them.
std::string_view raised(const Mix& mix, const MixTensor& tensor, int64_t layer, std::string_view part) {
  const bool value = part == "attn_v.weight" || part == "attn_kv_b.weight", down = part.starts_with("ffn_down");
  const bool low = mix.name == "Q2_K", medium = mix.name == "Q4_K_M", eight = tensor.experts == 8;
  if (eight && (value || part == "attn_k.weight")) return "Q8_0";
  if (part == "attn_output.weight") {
    if (eight && (low || medium)) return "Q5_K";
    if (low) return "Q3_K";
  }
  if (low && value) return tensor.queries_per_key >= 4 ? "Q4_K" : "Q3_K";
  if (low && down) return "Q3_K";
  if (medium && (value || down) && wants_more(layer, tensor.layers)) return "Q6_K";
  return mix.base;
}

}  // namespace

std::span<const Mix> all_mixes() { return kMixes; }

const Mix* mix_by_name(std::string_view name) {
  for (const Mix& mix : kMixes) {
    if (mix.name == name) return &mix;
  }
  return nullptr;
}

const Type& type_in_mix(const Mix& mix, const MixTensor& tensor) {
  const auto [layer, part] = place_of(tensor.name);
  if (tensor.dims < 2 || !part.ends_with(".weight") || part == "ffn_gate_inp.weight") return *f32();
  const Type& base = named(mix.base);
  if (!base.is_quantised()) return base;
  const bool output = part == "output.weight" || (tensor.tied && part == "token_embd.weight");
  if (mix.name == "MXFP4") return fitting(named(tensor.dims > 2 && !output ? "MXFP4" : "Q8_0"), tensor.cols);
  if (output) {
    const bool eight_bits = base.bytes > base.block || tensor.cols % base.block != 0;
    return fitting(named(eight_bits ? "Q8_0" : "Q6_K"), tensor.cols);
  }
  return fitting(named(raised(mix, tensor, layer, part)), tensor.cols);
}

}  // namespace sonde
