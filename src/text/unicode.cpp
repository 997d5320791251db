#include "text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "text/tokenizer.h"

namespace sonde {

Utf8Step next_utf8(std::string_view text) {
  auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  uint8_t lead = byte(0);
  if (lead < 0x80) return {lead, 1, true, false};
  // The second byte has a narrower range after E0, ED, F0, F4 (overlong forms, surrogates, beyond U+10FFFF).
  int more = 0;
  uint8_t low = 0x80, high = 0xBF;
  char32_t code = 0;
  if (lead >= 0xC2 && lead <= 0xDF) {
    more = 1, code = lead & 0x1F;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    more = 2, code = lead & 0x0F;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    more = 3, code = lead & 0x07;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {0xFFFD, 1, false, false};
  }
  for (int i = 1; i <= more; ++i) {
    if (static_cast<size_t>(i) >= text.size()) return {0xFFFD, i, false, true};
    uint8_t next = byte(static_cast<size_t>(i));
    if (next < low || next > high) return {0xFFFD, i, false, false};
    low = 0x80, high = 0xBF;
    code = code << 6 | (next & 0x3F);
  }
  return {code, more + 1, true, false};
}

namespace {

// Length of the ASCII prefix, eight bytes at a time.
size_t ascii_prefix(std::string_view text) {
  size_t i = 0;
  for (; i + 8 <= text.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + i, 8);
    if (word & 0x8080808080808080u) break;
  }
  while (i < text.size() && static_cast<uint8_t>(text[i]) < 0x80) ++i;
  return i;
}

// Characters that NFC may change, or that may join the one before. A superset: marks (all of NFC_QC=Maybe but the jamo
// are marks), everything with a canonical decomposition, the jamo that follow a leading consonant.
bool nfc_may_touch(char32_t code) {
  if (code < 0x300 || (code >= 0x3400 && code <= 0x9FFF) || (code >= 0xAC00 && code <= 0xD7A3)) return false;
  if (code >= 0x1160 && code <= 0x11FF) return true;
  const utf8proc_property_t* property = utf8proc_get_property(static_cast<utf8proc_int32_t>(code));
  if (property->combining_class != 0) return true;
  if (property->category == UTF8PROC_CATEGORY_MN || property->category == UTF8PROC_CATEGORY_MC) return true;
  return property->decomp_seqindex != UINT16_MAX && property->decomp_type == 0;
}

// utf8proc_map() would do, but it orders marks by swapping neighbours: n^2 steps for a long run of them.
void append_nfc(std::string& out, std::string_view text) {
  constexpr auto kOptions = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  constexpr utf8proc_ssize_t kRoom = 8;  // no canonical decomposition is longer than four
  std::vector<utf8proc_int32_t> codes;
  for (size_t at = 0; at < text.size();) {
    Utf8Step step = next_utf8(text.substr(at));
    at += static_cast<size_t>(step.length);
    auto code = static_cast<utf8proc_int32_t>(step.code);
    utf8proc_int32_t parts[kRoom];
    utf8proc_ssize_t count = utf8proc_decompose_char(code, parts, kRoom, kOptions, nullptr);
    if (count < 0 || count > kRoom) parts[0] = code, count = 1;
    codes.insert(codes.end(), parts, parts + count);
  }
  // Marks behind a starter in the order of their classes, equal classes as they stand: class, place, code in one key.
  auto order = [](utf8proc_int32_t code) {
    return static_cast<uint64_t>(utf8proc_get_property(code)->combining_class);
  };
  std::vector<uint64_t> keys;
  for (size_t from = 0; from < codes.size(); from += keys.size() + 1) {
    keys.clear();
    for (size_t i = from; i < codes.size() && order(codes[i]) != 0; ++i) {
      keys.push_back(order(codes[i]) << 56 | uint64_t{keys.size()} << 21 | static_cast<uint64_t>(codes[i]));
    }
    std::sort(keys.begin(), keys.end());
    for (size_t i = 0; i < keys.size(); ++i) codes[from + i] = static_cast<utf8proc_int32_t>(keys[i] & 0x1FFFFF);
  }
  utf8proc_ssize_t count =
      utf8proc_normalize_utf32(codes.data(), static_cast<utf8proc_ssize_t>(codes.size()), kOptions);
  for (utf8proc_ssize_t i = 0; i < count; ++i) append_utf8(out, static_cast<char32_t>(codes[static_cast<size_t>(i)]));
}

}  // namespace

bool valid_utf8(std::string_view text) {
  while (true) {
    text.remove_prefix(ascii_prefix(text));
    if (text.empty()) return true;
    Utf8Step step = next_utf8(text);
    if (!step.valid) return false;
    text.remove_prefix(static_cast<size_t>(step.length));
  }
}

std::string lossy_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    size_t plain = ascii_prefix(text);
    out.append(text.substr(0, plain));
    text.remove_prefix(plain);
    if (text.empty()) break;
    Utf8Step step = next_utf8(text);
    auto length = static_cast<size_t>(step.length);
    if (step.valid) {
      out.append(text.substr(0, length));
    } else {
      out.append("\xEF\xBF\xBD");
    }
    text.remove_prefix(length);
  }
  return out;
}

void append_utf8(std::string& text, char32_t code) {
  auto put = [&](char32_t value) { text.push_back(static_cast<char>(value)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6), put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12), put(0x80 | (code >> 6 & 0x3F)), put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18), put(0x80 | (code >> 12 & 0x3F)), put(0x80 | (code >> 6 & 0x3F)), put(0x80 | (code & 0x3F));
  }
}

bool surely_nfc(std::string_view text) {
  while (true) {
    text.remove_prefix(ascii_prefix(text));
    if (text.empty()) return true;
    Utf8Step step = next_utf8(text);
    if (nfc_may_touch(step.code)) return false;
    text.remove_prefix(static_cast<size_t>(step.length));
  }
}

std::string nfc(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  size_t done = 0, previous = 0, at = 0;  // bytes copied, start of the character before `at`, current place
  while (at < text.size()) {
    Utf8Step step = next_utf8(text.substr(at));
    if (!nfc_may_touch(step.code)) {
      previous = at;
      at += static_cast<size_t>(step.length);
      continue;
    }
    // From the character before (a starter, which may take up what follows) to the next one that nothing touches.
    size_t start = previous > done ? previous : done;
    size_t end = at;
    while (end < text.size()) {
      Utf8Step next = next_utf8(text.substr(end));
      if (!nfc_may_touch(next.code)) break;
      end += static_cast<size_t>(next.length);
    }
    out.append(text.substr(done, start - done));
    append_nfc(out, text.substr(start, end - start));
    done = previous = at = end;
  }
  out.append(text.substr(done));
  return out;
}

bool is_white_space(char32_t code) {
  return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 || code == 0x1680 ||
         (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F ||
         code == 0x3000;
}

bool is_word(char32_t code) {
  if (code == 0x200C || code == 0x200D) return true;  // Join_Control
  // Symbols that are Alphabetic: circled, squared and parenthesised Latin letters.
  if ((code >= 0x24B6 && code <= 0x24E9) || (code >= 0x1F130 && code <= 0x1F149) ||
      (code >= 0x1F150 && code <= 0x1F169) || (code >= 0x1F170 && code <= 0x1F189)) {
    return true;
  }
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

std::string Utf8Stream::push(std::string_view bytes) {
  pending_.append(bytes);
  // Only the last three bytes can belong to an unfinished character.
  size_t keep = 0;
  for (size_t back = 1; back <= 3 && back <= pending_.size(); ++back) {
    std::string_view tail = std::string_view(pending_).substr(pending_.size() - back);
    if ((static_cast<uint8_t>(tail[0]) & 0xC0) == 0x80) continue;
    Utf8Step step = next_utf8(tail);
    if (step.cut && static_cast<size_t>(step.length) == back) keep = back;
    break;
  }
  std::string rest = pending_.substr(pending_.size() - keep);
  pending_.resize(pending_.size() - keep);
  std::string out = lossy_utf8(pending_);
  pending_ = std::move(rest);
  return out;
}

std::string Utf8Stream::finish() {
  std::string out = lossy_utf8(pending_);
  pending_.clear();
  return out;
}

}  // namespace sonde
