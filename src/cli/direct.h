// A model run by hand, without an engine: one sequence in pages of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/memory.h"
#include "base/threads.h"
#include "cli/common_flags.h"
#include "cli/progress.h"
#include "files/checkpoint.h"
#include "model/model.h"

namespace sonde {

struct DirectModel {
  std::shared_ptr<const Checkpoint> checkpoint;
  std::shared_ptr<Model> model;
  std::shared_ptr<ThreadPool> pool;  // the process's
  int64_t context = 0;  // tokens a sequence may hold
};

Result<DirectModel> open_direct(const std::string& path, const RunFlags& flags);

// Ids below the vocabulary's size, and no more than the context holds: an error with both numbers.
Status check_ids(const DirectModel& direct, std::span<const int32_t> ids);

// Shows a step of `amount` behind `before`, layer by layer. Ctrl-C gives it up.
StepWatch watched(ProgressLine& line, int64_t before, int64_t amount);

class Pages {
 public:
  // An error where the memory for so many tokens is not free.
  static Result<Pages> make(const KvLayout& layout, int64_t tokens);
  std::span<std::byte* const> all() const { return pointers_; }

 private:
  AlignedVector<std::byte> bytes_;
  std::vector<std::byte*> pointers_;
};

}  // namespace sonde
