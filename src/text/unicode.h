// UTF-8 and Unicode as tokenizers need them: lossy decoding, NFC, streaming.
#pragma once

#include <string>
#include <string_view>

namespace sonde {

// The first character of a text, or what is broken there.
struct Utf8Step {
  char32_t code;  // U+FFFD where broken
  int length;     // bytes taken: a whole character, else the maximal subpart of an ill-formed sequence (Unicode 3.9)
  bool valid;
  bool cut;  // not valid only because the text ends: more bytes could complete it
};
Utf8Step next_utf8(std::string_view text);  // text is not empty

bool valid_utf8(std::string_view text);
// Every maximal subpart of an ill-formed sequence becomes U+FFFD, as Python's and Rust's lossy decoding do.
std::string lossy_utf8(std::string_view text);
void append_utf8(std::string& text, char32_t code);

// True where the text is in NFC for sure (a quick look; false means: call nfc()).
bool surely_nfc(std::string_view text);
// The text in NFC; `text` is valid UTF-8.
std::string nfc(std::string_view text);

bool is_white_space(char32_t code);  // Unicode White_Space
bool is_word(char32_t code);         // \w of Unicode: Alphabetic, marks, Nd, Pc, Join_Control

}  // namespace sonde
