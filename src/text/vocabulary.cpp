#include "text/vocabulary.h"

#include <fmt/format.h>

#include <utility>

#include "text/unicode.h"

namespace sonde {

const char* const kGpt2Split = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

constexpr char32_t kMapped = 0x144;  // stand-ins lie below
using ByteMap = std::array<int16_t, kMapped>;

// Printable Latin-1 stands for itself; the other 68 bytes, in order, for U+0100 and up.
ByteMap make_byte_map() {
  ByteMap map;
  map.fill(-1);
  size_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    map[printable ? static_cast<size_t>(byte) : next++] = static_cast<int16_t>(byte);
  }
  return map;
}

std::string shown(std::string_view text) { return lossy_utf8(text.substr(0, 64)); }

}  // namespace

bool append_mapped_bytes(std::string_view text, std::string& out) {
  static const ByteMap map = make_byte_map();
  size_t before = out.size();
  while (!text.empty()) {
    Utf8Step step = next_utf8(text);
    if (!step.valid || step.code >= kMapped || map[step.code] < 0) {
      out.resize(before);
      return false;
    }
    out.push_back(static_cast<char>(map[step.code]));
    text.remove_prefix(static_cast<size_t>(step.length));
  }
  return true;
}

std::optional<uint8_t> byte_piece(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
  int value = 0;
  for (char c : text.substr(3, 2)) {
    int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    if (digit < 0) return std::nullopt;
    value = value * 16 + digit;
  }
  return static_cast<uint8_t>(value);
}

bool split_merge(std::string_view merge, std::string_view& left, std::string_view& right) {
  size_t space = merge.find(' ', 1);  // a stand-in is never a space; SentencePiece forms have none either
  if (space == std::string_view::npos || space + 1 == merge.size() || merge.find(' ', space + 1) != merge.npos) {
    return false;
  }
  left = merge.substr(0, space);
  right = merge.substr(space + 1);
  return true;
}

Status set_merge(Vocabulary& vocabulary, std::string_view left, std::string_view right, uint32_t rank,
                 std::string& buffer) {
  buffer.clear();
  auto append = [&](std::string_view form) {
    if (!vocabulary.byte_level || !append_mapped_bytes(form, buffer)) buffer.append(form);
  };
  append(left);
  size_t middle = buffer.size();
  append(right);
  std::string_view whole = buffer;
  auto a = vocabulary.lookup().find(whole.substr(0, middle));
  auto b = vocabulary.lookup().find(whole.substr(middle));
  auto ab = vocabulary.lookup().find(whole);
  if (!a || !b || !ab) {
    return Error{Code::kCorrupt,
                 fmt::format("merge {} names a piece that is not in the vocabulary", rank),
                 vocabulary.where,
                 "",
                 shown(left) + " " + shown(right),
                 ""};
  }
  vocabulary.merges.set(*a, *b, {rank, *ab});
  return {};
}

void Vocabulary::set_control(int32_t id) {
  if (id < 0 || id >= pieces.size()) return;
  if (control.size() < static_cast<size_t>(pieces.size())) control.resize(static_cast<size_t>(pieces.size()));
  control[static_cast<size_t>(id)] = true;
}

void Vocabulary::set_added(AddedToken token) {
  pieces.set(token.id, token.content);
  // Think tags are part of the text that a parser reads, even where a file calls them special.
  bool think = token.content == "<think>" || token.content == "</think>";
  if (!think && (token.filler || looks_like_control(token))) set_control(token.id);
  added.push_back(std::move(token));
}

}  // namespace sonde
