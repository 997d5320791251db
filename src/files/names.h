// Tensor names of GGUF files against the published (Hugging Face) ones, for deepseek2, llama, qwen2 and qwen3.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sonde {

// "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight". A stacked expert tensor gives the name with "{}"
// in the place of the expert's number: "model.layers.3.mlp.experts.{}.gate_proj.weight". A name that is not known comes
// back as it is.
std::string hf_name(std::string_view gguf);

// The other way; "model.layers.3.mlp.experts.7.gate_proj.weight" gives "blk.3.ffn_gate_exps.weight". Empty: GGUF has no
// such name.
std::optional<std::string> gguf_name(std::string_view hf);

// Layer and expert number in a published name; -1 where there is none.
struct NameNumbers {
  int64_t layer = -1, expert = -1;
};
NameNumbers name_numbers(std::string_view hf);

}  // namespace sonde
