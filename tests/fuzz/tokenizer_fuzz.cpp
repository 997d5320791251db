// Two inputs in one: a tokenizer.json and a text, a NUL byte between them. Without a NUL all of it is a text for a
// tokenizer at hand.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "text/tokenizer.h"
#include "text/unicode.h"

namespace {

constexpr std::string_view kAtHand = R"({"normalizer":{"type":"NFC"},
"added_tokens":[{"id":256,"content":"<x>","special":true},{"id":257,"content":"<think>","special":false,"lstrip":true,"rstrip":true},
{"id":258,"content":"word","single_word":true,"normalized":true}],
"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"(?i:'s|'t)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},"behavior":"Isolated"},
{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]},
"model":{"type":"BPE","vocab":{VOCABULARY},"merges":["t h","th e","Ġ the","a a","Ġ a"]}})";

// The 256 bytes as published stand-ins, and a few merges.
std::string json_at_hand() {
  std::string vocabulary;
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    std::string form;
    sonde::append_utf8(form, static_cast<char32_t>(printable ? byte : next++));
    if (form == "\"" || form == "\\") form.insert(form.begin(), '\\');
    vocabulary += "\"" + form + "\":" + std::to_string(byte) + ",";
  }
  vocabulary += R"("th":259,"the":260,"Ġthe":261,"aa":262,"Ġa":263)";
  std::string json(kAtHand);
  json.replace(json.find("VOCABULARY"), 10, vocabulary);
  return json;
}

void check(bool holds) {
  if (!holds) std::abort();
}

// `sound`: a tokenizer without <unk> whose vocabulary can express every text.
void try_text(const sonde::Tokenizer& tokenizer, std::string_view text, bool sound) {
  for (sonde::Special special : {sonde::Special::kNone, sonde::Special::kThink, sonde::Special::kAll}) {
    auto ids = tokenizer.encode(text, special);
    for (int32_t id : ids) {
      check(id >= 0 && id < tokenizer.vocab_size());
      check(!sound || special == sonde::Special::kAll || !tokenizer.is_control(id));
    }
    std::string bytes = tokenizer.decode(ids);
    sonde::Utf8Stream stream;
    std::string streamed;
    for (int32_t id : ids) streamed += stream.push(tokenizer.piece(id));
    streamed += stream.finish();
    check(streamed == sonde::lossy_utf8(bytes));
    if (sound && special == sonde::Special::kNone) check(bytes == sonde::nfc(sonde::lossy_utf8(text)));
  }
  int64_t last = 0;
  for (int64_t end : tokenizer.cuts(text)) {
    check(end > last);
    last = end;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  size_t nul = input.find('\0');
  if (nul == input.npos) {
    static const std::string json = json_at_hand();
    static const std::unique_ptr<sonde::Tokenizer> at_hand = [] {
      sonde::TokenizerSource source;
      source.tokenizer_json = json;
      auto made = sonde::Tokenizer::open(source);
      check(made.ok());
      return std::move(made).value();
    }();
    try_text(*at_hand, input, true);
    return 0;
  }
  sonde::TokenizerSource source;
  source.tokenizer_json = input.substr(0, nul);
  auto made = sonde::Tokenizer::open(source);
  if (made.ok()) try_text(**made, input.substr(nul + 1), false);
  return 0;
}
