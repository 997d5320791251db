#include "text/jinja_lexer.h"

#include <fmt/format.h>
#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "text/python_text.h"

namespace sonde::jinja {
namespace {

using Kind = Token::Kind;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool starts_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}

void put_utf8(std::string& out, uint32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xc0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xe0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | (c >> 18));
    out += static_cast<char>(0x80 | ((c >> 12) & 0x3f));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  }
}

// "\r\n" and "\r" become "\n"; one newline at the end goes away.
std::string normalised(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
      continue;
    }
    out += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : owned_(normalised(source)), source_(owned_) {}

  Result<std::vector<Token>> run() {
    while (at_ < source_.size() && !error_) read_data();
    if (error_) return std::move(*error_);
    add(Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  void add(Kind kind, std::string text) { tokens_.push_back({kind, line_, std::move(text), 0, 0}); }
  void fail(std::string what) {
    if (!error_) error_ = template_error(line_, std::move(what));
  }
  bool at(std::string_view word) const { return source_.substr(at_).starts_with(word); }
  void advance(size_t count) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<ptrdiff_t>(at_),
                                         source_.begin() + static_cast<ptrdiff_t>(at_ + count), '\n'));
    at_ += count;
  }
  // Moves over the white space (Python's) at the cursor.
  void skip_space() {
    const std::string_view rest = source_.substr(at_);
    advance(rest.size() - python_lstrip(rest).size());
  }

  // Text up to the next tag, and the opening of that tag.
  void read_data() {
    size_t open = source_.size();
    char kind = 0;
    for (size_t i = source_.find('{', at_); i != source_.npos && i + 1 < source_.size(); i = source_.find('{', i + 1)) {
      const char next = source_[i + 1];
      if (next == '{' || next == '%' || next == '#') {
        open = i;
        kind = next;
        break;
      }
    }
    std::string_view data = source_.substr(at_, open - at_);
    const char sign = open + 2 < source_.size() ? source_[open + 2] : '\0';
    const size_t whole = data.size();
    if (kind && sign == '-') {
      data = python_rstrip(data);
    } else if (kind && sign != '+' && kind != '{') {
      const size_t line_at = data.rfind('\n') + 1;  // npos + 1 is 0
      const std::string_view tail = data.substr(line_at);
      if ((line_at > 0 || line_starts_) && !tail.empty() && python_strip(tail).empty()) data = data.substr(0, line_at);
    }
    if (!data.empty()) add(Kind::kData, std::string(data));
    advance(whole);
    if (!kind) return;
    advance(sign == '-' || sign == '+' ? 3 : 2);
    if (kind == '#') {
      read_comment();
    } else if (kind == '%') {
      read_block();
    } else {
      add(Kind::kOutputBegin, "");
      read_inside("}}", Kind::kOutputEnd, false);
    }
  }

  // The closing of a tag at the cursor ("%}" with its sign); true when it was there.
  bool close(std::string_view mark, bool trims_newline) {
    const std::string minus = "-" + std::string(mark), plus = "+" + std::string(mark);
    const size_t begin = at_;
    if (at(minus)) {
      advance(minus.size());
      skip_space();
    } else if (trims_newline && at(plus)) {
      advance(plus.size());
    } else if (at(mark)) {
      advance(mark.size());
      if (trims_newline && at("\n")) advance(1);
    } else {
      return false;
    }
    line_starts_ = at_ > begin && source_[at_ - 1] == '\n';
    return true;
  }

  void read_comment() {
    while (at_ < source_.size()) {
      if (close("#}", true)) return;
      advance(1);
    }
    fail("a comment is not closed");
  }

  void read_block() {
    const size_t begin = at_;
    const int line = line_;
    skip_space();
    if (at("raw")) {
      advance(3);
      skip_space();
      if (close_raw_begin()) return read_raw();
      at_ = begin;
      line_ = line;
    }
    add(Kind::kBlockBegin, "");
    read_inside("%}", Kind::kBlockEnd, true);
  }

  bool close_raw_begin() {
    if (at("-%}")) {
      advance(3);
      skip_space();
      return true;
    }
    if (!at("%}")) return false;
    advance(2);
    return true;
  }

  void read_raw() {
    for (size_t open = source_.find("{%", at_); open != source_.npos; open = source_.find("{%", open + 2)) {
      const char sign = open + 2 < source_.size() ? source_[open + 2] : '\0';
      std::string_view rest = source_.substr(open + (sign == '-' || sign == '+' ? 3 : 2));
      rest = python_lstrip(rest);
      if (!rest.starts_with("endraw")) continue;
      rest = python_lstrip(rest.substr(6));
      if (!rest.starts_with("%}") && !rest.starts_with("-%}") && !rest.starts_with("+%}")) continue;
      std::string_view data = source_.substr(at_, open - at_);
      if (sign == '-') data = python_rstrip(data);
      if (!data.empty()) add(Kind::kData, std::string(data));
      advance(source_.size() - rest.size() - at_);
      close("%}", true);
      return;
    }
    fail("raw is not closed");
  }

  // Names, literals and operators up to the closing mark, which counts outside brackets only.
  void read_inside(std::string_view mark, Kind end, bool trims_newline) {
    std::string open;  // brackets still open
    while (!error_) {
      skip_space();
      if (at_ >= source_.size()) return fail("a tag is not closed");
      const int line = line_;
      if (open.empty() && close(mark, trims_newline)) {
        tokens_.push_back({end, line, "", 0, 0});
        return;
      }
      const char c = source_[at_];
      if (starts_name(c)) {
        size_t n = 1;
        while (at_ + n < source_.size() && (starts_name(source_[at_ + n]) || is_digit(source_[at_ + n]))) ++n;
        add(Kind::kName, std::string(source_.substr(at_, n)));
        advance(n);
      } else if (is_digit(c)) {
        read_number();
      } else if (c == '\'' || c == '"') {
        read_literal(c);
      } else {
        read_operator(open);
      }
    }
  }

  void read_operator(std::string& open) {
    static constexpr std::array<std::string_view, 8> kTwo = {"//", "**", "==", "!=", "<=", ">=", "&&", "||"};
    for (size_t i = 0; i < 6; ++i) {
      if (at(kTwo[i])) {
        add(Kind::kOperator, std::string(kTwo[i]));
        return advance(2);
      }
    }
    const char c = source_[at_];
    if (std::string_view("+-*/%~=<>|.,:;()[]{}").find(c) == std::string_view::npos) {
      return fail(fmt::format("unexpected character \"{}\"", python_repr(source_.substr(at_, 1))));
    }
    if (c == '(' || c == '[' || c == '{') open += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (open.empty() || open.back() != c) return fail(fmt::format("unexpected \"{}\"", c));
      open.pop_back();
    }
    add(Kind::kOperator, std::string(1, c));
    advance(1);
  }

  void read_number() {
    size_t n = 0;
    const auto digits = [&] {
      while (at_ + n < source_.size() && (is_digit(source_[at_ + n]) || source_[at_ + n] == '_')) ++n;
    };
    const auto peek = [&](size_t i) { return at_ + i < source_.size() ? source_[at_ + i] : '\0'; };
    digits();
    bool real = false;
    if (peek(n) == '.' && is_digit(peek(n + 1))) {
      real = true;
      ++n;
      digits();
    }
    const bool sign = peek(n + 1) == '-' || peek(n + 1) == '+';
    if ((peek(n) == 'e' || peek(n) == 'E') && is_digit(peek(n + (sign ? 2 : 1)))) {
      real = true;
      n += sign ? 2 : 1;
      digits();
    }
    std::string text(source_.substr(at_, n));
    std::erase(text, '_');
    Token token{real ? Kind::kReal : Kind::kInteger, line_, text, 0, 0};
    const auto result = real ? std::from_chars(text.data(), text.data() + text.size(), token.real)
                             : std::from_chars(text.data(), text.data() + text.size(), token.integer);
    if (result.ec != std::errc() || result.ptr != text.data() + text.size()) return fail("number too large");
    tokens_.push_back(std::move(token));
    advance(n);
  }

  // \xNN, \uNNNN, \UNNNNNNNN and octal; false when the digits are missing.
  bool read_code(std::string_view digits, int base, std::string& out) {
    uint32_t code = 0;
    const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), code, base);
    if (result.ec != std::errc() || result.ptr != digits.data() + digits.size() || code > 0x10ffff ||
        (code >= 0xd800 && code < 0xe000)) {
      fail("bad escape in a literal");
      return false;
    }
    put_utf8(out, code);
    return true;
  }

  void read_literal(char quote) {
    const int line = line_;
    std::string out;
    size_t i = at_ + 1;
    while (i < source_.size() && source_[i] != quote && !error_) {
      if (source_[i] != '\\' || i + 1 >= source_.size()) {
        out += source_[i++];
        continue;
      }
      const char c = source_[i + 1];
      i += 2;
      static constexpr std::string_view kNames = "abfnrtv\\'\"", kValues = "\a\b\f\n\r\t\v\\'\"";
      if (const size_t simple = kNames.find(c); simple != kNames.npos) {
        out += kValues[simple];
      } else if (c == '\n') {  // a line goes on
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const size_t n = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        if (i + n > source_.size()) return fail("bad escape in a literal");
        if (!read_code(source_.substr(i, n), 16, out)) return;
        i += n;
      } else if (c >= '0' && c <= '7') {
        size_t n = 1;
        while (n < 3 && i - 1 + n < source_.size() && source_[i - 1 + n] >= '0' && source_[i - 1 + n] <= '7') ++n;
        if (!read_code(source_.substr(i - 1, n), 8, out)) return;
        i += n - 1;
      } else {
        out += '\\';
        out += c;
      }
    }
    if (i >= source_.size()) return fail("a literal is not closed");
    advance(i + 1 - at_);
    tokens_.push_back({Kind::kText, line, std::move(out), 0, 0});
  }

  std::string owned_;
  std::string_view source_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starts_ = true;  // the cursor is at the start of a line
  std::vector<Token> tokens_;
  std::optional<Error> error_;
};

}  // namespace

Error template_error(int line, std::string what) {
  return Error{Code::kInvalid, std::move(what), fmt::format("chat template, line {}", line), "", "", ""};
}

Result<std::vector<Token>> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace sonde::jinja
