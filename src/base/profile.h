// Where the time of forward passes goes, by operation: kept by a thread pool while someone measures.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace sonde {

// For the one thread that calls the pool.
class Profile {
 public:
  enum Arithmetic { kF32, kBf16, kInt8 };
  struct Operation {
    std::string_view name;
    int64_t calls = 0, ns = 0;
    int64_t waiting_ns = 0;  // at the ends of fork-joins for the last thread: the mean over all threads
    double bytes = 0;                           // of weights or cache, read once a call
    double operations[3] = {0, 0, 0};           // by Arithmetic; two a multiply-add
    double all_operations() const { return operations[kF32] + operations[kBf16] + operations[kInt8]; }
  };

  // Time between the scope's two ends, less that of scopes inside it. Does nothing where `profile` is null.
  class Scope {
   public:
    Scope(Profile* profile, std::string_view name) : profile_(profile) {
      if (profile_ != nullptr) outer_ = profile_->enter(name);
    }
    ~Scope() {
      if (profile_ != nullptr) profile_->leave(outer_);
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Profile* profile_;
    std::size_t outer_ = 0;
  };

  // Work of the operation that is open.
  void work(double bytes, double operations, Arithmetic arithmetic) {
    Operation& o = operations_[open_];
    o.bytes += bytes, o.operations[arithmetic] += operations;
  }
  void waited(int64_t ns) { operations_[open_].waiting_ns += ns; }

  // In the order of their first use; the first, without a name, is what happened outside every scope (no time is kept).
  const std::vector<Operation>& operations() const { return operations_; }
  static int64_t now_ns();

 private:
  std::size_t enter(std::string_view name);  // gives what was open before
  void leave(std::size_t outer);
  void charge();

  std::vector<Operation> operations_{Operation{}};
  std::size_t open_ = 0;
  int64_t since_ = 0;  // the open operation has been charged up to here
};

}  // namespace sonde
