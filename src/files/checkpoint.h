// A model as people have it: a Hugging Face folder, or a GGUF file (the first of several). Both look the same from here on:
// tensors under their published Hugging Face names, configuration with the keys of config.json.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sonde/result.h"
#include "tensor/tensor.h"

namespace sonde {

// What a GGUF file says of its vocabulary (tokenizer.ggml.*), already checked for consistent lengths.
struct GgufVocabulary {
  std::string model;                    // "gpt2": byte-level BPE; "llama": SentencePiece-style
  std::string pre;                      // pre-tokenizer name; "" when absent
  std::vector<std::string_view> tokens; // into the mapped file
  std::vector<int32_t> types;           // 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte; empty: all normal
  std::vector<float> scores;            // llama only
  std::vector<std::string_view> merges; // "left right"
  std::map<std::string, int32_t> ids;   // "bos", "eos", "eot", "eom", "unk", "pad", "fim_pre", ... where present
  std::optional<bool> add_bos, add_eos, add_space_prefix;
  // Converted from a tokenizer.json without these: no NFC whatever `pre` stands for; BOS is the caller's business.
  bool no_normalizer = false, no_post_processor = false;
};

// Where the tokenizer comes from; both absent: the checkpoint has none.
struct TokenizerSource {
  std::string_view tokenizer_json;      // bytes of tokenizer.json (mapped); empty: none
  std::string tokenizer_config;         // text of tokenizer_config.json; empty: none
  std::optional<GgufVocabulary> gguf;
};

class Checkpoint {
 public:
  // `path`: a folder, model.safetensors(.index.json), a .gguf file or the first of a split one.
  // A folder with tokenizer.json alone, and a GGUF with a vocabulary alone, open too (no tensors).
  static Result<std::unique_ptr<Checkpoint>> open(const std::string& path);
  ~Checkpoint();

  enum class Format { kSafetensors, kGguf };
  Format format() const;
  const std::string& path() const;

  // config.json as published, or what a GGUF file's keys mean in those words (golden/gguf_reference.py's config_of):
  // model_type, hidden_size, rope_scaling ... Two keys of our own, from GGUF only:
  //   "rope_pairs": "interleaved" - rows of q and k are in the order of neighbouring pairs (llama files);
  //   "file_type" - text such as "Q4_K_M" from general.file_type.
  // null (a JSON null) when there is none (a vocabulary alone).
  const nlohmann::json& config() const;
  const nlohmann::json& generation_config() const;  // null when absent

  // Every tensor by Hugging Face name. GGUF: stacked experts come apart as model.layers.N.mlp.experts.E.{gate,up,down}_proj.weight;
  // split MLA appears as model.layers.N.self_attn.k_b_proj.weight [heads, rank, nope] and .v_b_proj.weight [heads, v, rank]
  // (2-D forms are given this 3-D shape); rope_freqs.weight keeps its name. FP8 scales: NAME_scale_inv or NAME minus "weight" plus "scale".
  const Tensor* find(std::string_view name) const;
  const std::map<std::string, Tensor, std::less<>>& tensors() const;

  // A 2-D weight with its FP8 scales if it has any; shape checked: [rows, cols]. Missing or otherwise shaped is an error.
  Result<Matrix> matrix(std::string_view name, int64_t rows, int64_t cols) const;
  // A 1-D (or scalar) tensor as F32 values; `count` checked.
  Result<std::vector<float>> vector(std::string_view name, int64_t count) const;

  const TokenizerSource& tokenizer() const;
  // Jinja text of the chat template (tokenizer_config.json, chat_template.jinja, or GGUF); empty: none.
  const std::string& chat_template() const;
  // Every id that ends a turn: config, generation_config (number or list), GGUF eos, eot, eom; no duplicates.
  const std::vector<int32_t>& end_tokens() const;
  std::optional<int32_t> bos_token() const;
  std::optional<bool> add_bos() const;   // what the file says of putting BOS in front (add_bos_token)
  int64_t file_bytes() const;            // of all weight files
  struct WeightFile {
    std::string path;
    int64_t bytes = 0, modified = 0;  // nanoseconds since 1970
    std::string_view header;          // all that says what the bytes behind it are
  };
  const std::vector<WeightFile>& weight_files() const;
  // Metadata of a GGUF file as JSON (long arrays as {"type", "count"}); null for folders. For `inspect`.
  nlohmann::json gguf_metadata() const;

 private:
  Checkpoint();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sonde
