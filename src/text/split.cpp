#include "text/split.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <fmt/format.h>

#include <utility>

#include "text/unicode.h"

namespace sonde {
namespace {

// Patterns come from files: a bound on what one search may cost (steps of the matcher, KiB of heap).
constexpr uint32_t kMatchLimit = 50'000'000, kHeapLimit = 64 * 1024;
constexpr size_t kMaxPattern = 64 * 1024;

void free_code(pcre2_code* code) { pcre2_code_free(code); }
void free_match(pcre2_match_data* match) { pcre2_match_data_free(match); }

std::string pcre2_text(int code) {
  PCRE2_UCHAR buffer[256] = {};
  pcre2_get_error_message(code, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

pcre2_match_context* limits() {
  static pcre2_match_context* const context = [] {
    pcre2_match_context* made = pcre2_match_context_create(nullptr);
    if (made) {
      pcre2_set_match_limit(made, kMatchLimit);
      pcre2_set_heap_limit(made, kHeapLimit);
    }
    return made;
  }();
  return context;
}

// Appends the ends of the pieces of subject[0, length) to `ends`, counted from `base`.
void split_piece(const pcre2_code* code, std::string_view piece, size_t base, pcre2_match_data* match,
                 std::vector<size_t>& ends) {
  auto subject = reinterpret_cast<PCRE2_SPTR>(piece.data());
  size_t done = 0, from = 0;
  while (from < piece.size()) {
    int found = pcre2_match(code, subject, piece.size(), from, PCRE2_NO_UTF_CHECK, match, limits());
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
      found = pcre2_match(code, subject, piece.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match, limits());
    }
    if (found < 0) break;  // no match; or a limit: the rest stays together, which encodes all the same
    const size_t* range = pcre2_get_ovector_pointer(match);
    size_t start = range[0], end = range[1];
    if (end <= start) {  // an empty match: on to the next character
      from = start + static_cast<size_t>(start < piece.size() ? next_utf8(piece.substr(start)).length : 1);
      continue;
    }
    if (start < done) break;  // \K may move a start backwards
    if (start > done) ends.push_back(base + start);
    ends.push_back(base + end);
    done = from = end;
  }
  if (done < piece.size()) ends.push_back(base + piece.size());
}

}  // namespace

std::string white_space_pattern(std::string_view pattern) {
  if (pattern == "\\s+$") pattern = "(?<!\\s)\\s+$";  // the same matches, without trying every start in a long run
  std::string out;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '\\' || i + 1 == pattern.size()) {
      out.push_back(pattern[i]);
      continue;
    }
    char kind = pattern[++i];
    if (kind == 's') {
      out += "\\p{White_Space}";
    } else if (kind == 'S') {
      out += "\\P{White_Space}";
    } else {
      out.push_back('\\');
      out.push_back(kind);
    }
  }
  return out;
}

Result<Splitter> Splitter::create(const std::vector<std::string>& patterns, const std::string& where) {
  Splitter made;
  for (const std::string& published : patterns) {
    if (published.size() > kMaxPattern) {
      return Error{Code::kTooLarge,
                   "split pattern is too long",
                   where,
                   fmt::format("at most {} bytes", kMaxPattern),
                   fmt::format("{} bytes", published.size()),
                   ""};
    }
    std::string pattern = white_space_pattern(published);
    int error = 0;
    size_t at = 0;
    // Oniguruma, which the published tokenizers use, lets ^ and $ match at every line; a dot takes no newline.
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    Compiled code(
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), options, &error, &at, nullptr),
        free_code);
    if (!code) {
      return Error{Code::kUnsupported,
                   "split pattern does not compile: " + pcre2_text(error),
                   where,
                   "",
                   fmt::format("{} (at byte {})", pattern.substr(0, 200), at),
                   ""};
    }
    pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);  // without it the interpreter does the same, slower
    made.steps_.push_back(std::move(code));
  }
  return made;
}

const std::vector<size_t>& Splitter::split(std::string_view text, Scratch& scratch) const {
  if (!scratch.match) scratch.match = {pcre2_match_data_create(1, nullptr), free_match};
  scratch.ends.assign(text.empty() ? 0 : 1, text.size());
  if (!scratch.match) return scratch.ends;
  for (const Compiled& code : steps_) {
    scratch.next.clear();
    size_t start = 0;
    for (size_t end : scratch.ends) {
      split_piece(code.get(), text.substr(start, end - start), start, scratch.match.get(), scratch.next);
      start = end;
    }
    std::swap(scratch.ends, scratch.next);
  }
  return scratch.ends;
}

}  // namespace sonde
