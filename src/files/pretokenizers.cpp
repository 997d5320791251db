#include "files/pretokenizers.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "files/error.h"

namespace sonde {
namespace {

using Json = nlohmann::json;

constexpr const char* kDigits = "<digits>";    // the step Digits, one by one
constexpr const char* kGpt2 = "<byte level>";  // the step ByteLevel with its own pattern

constexpr const char* kQwen =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kDeepSeekV3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kHan = "[一-龥ࠀ-一가-퟿]+";
// Cased letters of an older Unicode, as DeepSeek-LLM's file lists them. By number: some of them are not in NFC, and
// editors would compose them.
constexpr const char* kCased =
    "A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-\u02AF\u0370-\u0373"
    "\u0376\u0377\u037B-\u037D\u037F\u0386\u0388-\u038A\u038C\u038E-\u03A1\u03A3-\u03F5\u03F7-\u0481\u048A-"
    "\u052F\u0531-\u0556\u10A0-\u10C5\u13A0-\u13F5\u13F8-\u13FD\u1C90-\u1CBA\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-"
    "\u1D77\u1D79-\u1D9A\u1E00-\u1F15\u1F18-\u1F1D\u1F20-\u1F45\u1F48-\u1F4D\u1F50-\u1F57\u1F59\u1F5B\u1F5D"
    "\u1F5F-\u1F7D\u1F80-\u1FB4\u1FB6-\u1FBC\u1FBE\u1FC2-\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3\u1FD6-\u1FDB\u1FE0-"
    "\u1FEC\u1FF2-\u1FF4\u1FF6-\u1FFC\u2102\u2107\u210A-\u2113\u2115\u2119-\u211D\u2124\u2126\u2128\u212A-"
    "\u212D\u212F-\u2134\u2139\u213C-\u213F\u2145-\u2149\u214E\u2183\u2184\u2C00-\u2C7B\u2C7E-\u2CE4\u2CEB-"
    "\u2CEE\u2CF2\u2CF3\uA640-\uA66D\uA680-\uA69B\uA722-\uA76F\uA771-\uA787\uA78B-\uA78E\uAB70-\uABBF\uFB00-"
    "\uFB06\uFB13-\uFB17\uFF21-\uFF3A\uFF41-\uFF5A\U00010400-\U0001044F\U000104B0-\U000104D3\U000104D8-"
    "\U000104FB\U00010C80-\U00010CB2\U00010CC0-\U00010CF2\U000118A0-\U000118DF\U0001E900-\U0001E943";

struct Known {
  std::string_view name;
  std::vector<std::string> steps;  // patterns, or kDigits, kGpt2
  bool nfc = false, ignore_merges = false;
};

const std::vector<Known>& known() {
  static const std::vector<Known> table = {
      {"deepseek-v3", {R"(\p{N}{1,3})", "[一-龥\u3040-ゟ゠-ヿ]+", kDeepSeekV3}},
      {"deepseek-llm",
       {R"([\r\n])", fmt::format(R"(\s?[{}]+)", kCased), R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)", R"(\s+$)", kHan,
        kDigits}},
      {"deepseek-coder", {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", kHan, kDigits}},
      {"qwen2", {kQwen}, true},
      {"deepseek-r1-qwen", {kQwen}, true},
      {"llama-bpe", {kLlama3}, false, true},
      {"smollm", {kDigits, kGpt2}},
      {"gpt-2", {kGpt2}},
      {"default", {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2, R"(\p{N}+)", "[0-9][0-9][0-9]"}}};
  return table;
}

// Two writings of one pattern become one: line ends as escapes.
std::string one_writing(std::string_view pattern) {
  std::string out;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '\r')
      out += "\\r";
    else if (pattern[i] == '\n')
      out += "\\n";
    else
      out += pattern[i];
  }
  return out;
}

// The steps of a pre_tokenizer in order; false when there is one that no name stands for.
bool flatten(const Json& step, std::vector<std::string>& out, int depth = 0) {
  if (!step.is_object() || depth > 8) return false;
  const std::string type = step.value("type", "");
  if (type == "Sequence") {
    const auto inner = step.find("pretokenizers");
    return inner != step.end() && inner->is_array() &&
           std::all_of(inner->begin(), inner->end(), [&](const Json& s) { return flatten(s, out, depth + 1); });
  }
  if (type == "Digits") {
    out.emplace_back(kDigits);
    return step.value("individual_digits", false);
  }
  if (type == "ByteLevel") {
    if (step.value("use_regex", true)) out.emplace_back(kGpt2);
    return !step.value("add_prefix_space", false);
  }
  const auto pattern = step.find("pattern");
  if (type != "Split" || pattern == step.end() || !pattern->is_object() || step.value("behavior", "") != "Isolated" ||
      step.value("invert", false)) {
    return false;
  }
  const auto regex = pattern->find("Regex");
  if (regex == pattern->end() || !regex->is_string()) return false;
  const std::string text = one_writing(regex->get_ref<const std::string&>());
  out.push_back(text == R"(\p{N})" ? kDigits : text);
  return true;
}

bool is_empty(const Json& normalizer) {
  if (normalizer.is_null()) return true;
  const auto list = normalizer.is_object() ? normalizer.find("normalizers") : normalizer.end();
  return normalizer.is_object() && list != normalizer.end() && list->is_array() && list->empty();
}

}  // namespace

Result<std::string> pre_tokenizer_name(const Json& tokenizer, bool distilled, const std::string& where) {
  std::vector<std::string> steps;
  const Json none;
  const auto at = [&](const Json& object, const char* key) -> const Json& {
    const auto it = object.find(key);
    return it == object.end() ? none : *it;
  };
  try {
    const Json& normalizer = at(tokenizer, "normalizer");
    const bool nfc = normalizer.is_object() && normalizer.value("type", "") == "NFC";
    const bool ignore_merges = at(tokenizer, "model").value("ignore_merges", false);
    if (flatten(at(tokenizer, "pre_tokenizer"), steps)) {
      for (const Known& k : known()) {
        if (k.steps != steps || k.ignore_merges != ignore_merges) continue;
        if (k.name == "qwen2" && distilled) continue;
        // No name says "the split of Qwen without NFC": the converter adds a key of its own.
        if (!(nfc ? k.nfc : is_empty(normalizer))) break;
        return std::string(k.name);
      }
    }
  } catch (const std::exception&) {  // a value of another type than its key calls for: not a tokenizer that is known
  }
  return file_error(Code::kUnsupported, where, "GGUF has no name for the way this tokenizer splits text", {},
                    fmt::format("{}", fmt::join(steps, "  ")));
}

bool stands_for_nfc(std::string_view name) {
  return std::any_of(known().begin(), known().end(), [&](const Known& k) { return k.name == name && k.nfc; });
}

Status set_pre_tokenizer(Json& tokenizer, std::string_view name, const std::string& where) {
  const auto k = std::find_if(known().begin(), known().end(), [&](const Known& each) { return each.name == name; });
  if (k == known().end()) {
    std::vector<std::string_view> names;
    for (const Known& each : known()) names.push_back(each.name);
    return file_error(Code::kUnsupported, where, "unknown pre-tokenizer", fmt::format("{}", fmt::join(names, ", ")),
                      std::string(name));
  }
  Json steps = Json::array();
  bool byte_pattern = false;
  for (const std::string& step : k->steps) {
    const bool last = &step == &k->steps.back();
    if (step == kDigits)
      steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
    else if (step == kGpt2 && last)
      byte_pattern = true;
    else if (step == kGpt2) {
      constexpr const char* kSplit = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
      steps.push_back(
          {{"type", "Split"}, {"pattern", {{"Regex", kSplit}}}, {"behavior", "Isolated"}, {"invert", false}});
    } else {
      steps.push_back({{"type", "Split"}, {"pattern", {{"Regex", step}}}, {"behavior", "Isolated"}, {"invert", false}});
    }
  }
  steps.push_back(
      {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", byte_pattern}});
  tokenizer["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", steps}};
  tokenizer["normalizer"] = k->nfc ? Json{{"type", "NFC"}} : Json();
  tokenizer["model"]["ignore_merges"] = k->ignore_merges;
  return {};
}

}  // namespace sonde
