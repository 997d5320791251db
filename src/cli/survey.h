// What a checkpoint's tensors come to, counted from their names and shapes: nothing is loaded.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "files/checkpoint.h"
#include "model/config.h"
#include "model/model.h"

namespace sonde {

struct Survey {
  struct Sum {
    int64_t tensors = 0, bytes = 0;
  };
  std::map<std::string, Sum> types;  // by name of the type
  int64_t tensors = 0, bytes = 0;
  int64_t parameters = 0;         // in all, the MTP layer not counted
  int64_t active_parameters = 0;  // that a token meets: one row of the embedding, the chosen experts
  int64_t mtp_parameters = 0;
  Model::Work work;          // per token
  int64_t expert_bytes = 0;  // of all routed experts
  int64_t owned_bytes = 0;   // what a loaded model holds beside the mapped file
  KvLayout layout;           // zero without a configuration

  // Bytes that one step of `batch` tokens reads: the weights once, and as many experts as so many tokens choose between
  // them where each is equally likely.
  double step_bytes(const ModelConfig& config, int64_t batch) const;
};

// `config` may be null (a family that cannot run): config.json alone then tells layers and experts.
Survey survey(const Checkpoint& checkpoint, const ModelConfig* config, const ModelOptions& options = {});

}  // namespace sonde
