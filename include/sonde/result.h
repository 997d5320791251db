// Result<T>: a value, or one clear error. Whatever comes from a file, a request or the network returns it.
#pragma once

#include <cassert>
#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace sonde {

enum class Code {
  kInvalid,      // the input says something that cannot be (bad flag, bad field, wrong shape)
  kCorrupt,      // the bytes break their own format (truncated, offset out of range, bad magic)
  kNotFound,     // no such file, tensor, token, dialect
  kUnsupported,  // well formed, but this build cannot do it (unknown type, family, pre-tokenizer)
  kTooLarge,     // it does not fit: context, memory, queue, a stated bound
  kIo,           // the system refused (open, read, write, map)
  kCancelled,    // the caller gave up
  kInternal,     // our own mistake
};

// What failed, where, expected against found, and a hint. Fields that do not apply stay empty.
struct Error {
  Code code = Code::kInternal;
  std::string what = {};      // "tensor reaches beyond the end of the file"
  std::string where = {};     // "model.safetensors: model.norm.weight"
  std::string expected = {};  // "at most 4096 bytes"
  std::string found = {};     // "8192 bytes"
  std::string hint = {};      // "the download may be incomplete"

  // One line: "WHERE: WHAT (expected E, found F); HINT".
  std::string message() const;
  // Puts `context` in front of `where`, for callers that know more than the callee.
  Error in(std::string_view context) &&;
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & { assert(ok()); return std::get<0>(state_); }
  const T& value() const& { assert(ok()); return std::get<0>(state_); }
  T&& value() && { assert(ok()); return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  Error& error() & { assert(!ok()); return std::get<1>(state_); }
  const Error& error() const& { assert(!ok()); return std::get<1>(state_); }
  Error&& error() && { assert(!ok()); return std::get<1>(std::move(state_)); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}
  bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  Error& error() & { assert(!ok()); return *error_; }
  const Error& error() const& { assert(!ok()); return *error_; }
  Error&& error() && { assert(!ok()); return *std::move(error_); }

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;

#define SONDE_CONCAT_(a, b) a##b
#define SONDE_CONCAT(a, b) SONDE_CONCAT_(a, b)
// SONDE_TRY(auto x, f()): x = value of f(), or return its error from the enclosing function.
#define SONDE_TRY(declaration, ...) SONDE_TRY_(SONDE_CONCAT(sonde_try_, __LINE__), declaration, __VA_ARGS__)
#define SONDE_TRY_(temp, declaration, ...)         \
  auto temp = (__VA_ARGS__);                       \
  if (!temp.ok()) return std::move(temp).error();  \
  declaration = std::move(temp).value()
// SONDE_CHECK(f()): return the error of a Status from the enclosing function.
#define SONDE_CHECK(...)                                                    \
  do {                                                                      \
    auto sonde_status = (__VA_ARGS__);                                      \
    if (!sonde_status.ok()) return std::move(sonde_status).error();         \
  } while (false)

}  // namespace sonde
