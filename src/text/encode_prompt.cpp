// Ids of a prompt whose parts are told apart: what a message says can never become a control token.
#include <fmt/format.h>
#include <algorithm>
#include <unordered_map>

#include "text/dialect.h"

namespace sonde {
namespace {

struct Cut {
  size_t begin, end;  // bytes of the whole prompt
  int32_t id;
};

// Added tokens in one stretch of the template's own text.
class AddedTokens {
 public:
  explicit AddedTokens(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void find_in(std::string_view text, size_t offset, std::vector<Cut>& cuts) {
    size_t at = 0;
    for (int32_t id : tokenizer_.encode(text, Special::kAll)) {
      if (!is_added(id)) continue;
      const std::string_view piece = tokenizer_.piece(id);
      const size_t begin = text.find(piece, at);
      if (begin == text.npos) continue;
      at = begin + piece.size();
      cuts.push_back({offset + begin, offset + at, id});
    }
  }

 private:
  // Added: recognised as one token only where control tokens are looked for.
  bool is_added(int32_t id) {
    const auto [it, fresh] = known_.try_emplace(id, false);
    if (fresh) {
      const std::string_view piece = tokenizer_.piece(id);
      it->second = !piece.empty() &&
                   (tokenizer_.is_control(id) || tokenizer_.encode(piece, Special::kNone) != std::vector<int32_t>{id});
    }
    return it->second;
  }

  const Tokenizer& tokenizer_;
  std::unordered_map<int32_t, bool> known_;
};

void find_all(std::string_view text, std::string_view mark, int32_t id, std::vector<Cut>& cuts) {
  for (size_t at = text.find(mark); at != text.npos; at = text.find(mark, at + mark.size()))
    cuts.push_back({at, at + mark.size(), id});
}

bool is_think_tag(std::string_view token) { return token == "<think>" || token == "</think>"; }

}  // namespace

Result<std::vector<int32_t>> encode_prompt(const Prompt& prompt, const Dialect& dialect, const Tokenizer& tokenizer) {
  const std::string text = prompt.text();
  // Stretches of the template's own text: neighbouring parts are one.
  std::vector<std::pair<size_t, size_t>> own;
  size_t offset = 0;
  for (const PromptPart& part : prompt.parts) {
    if (part.trusted && !own.empty() && own.back().second == offset) {
      own.back().second += part.text.size();
    } else if (part.trusted) {
      own.emplace_back(offset, offset + part.text.size());
    }
    offset += part.text.size();
  }
  for (std::string_view control : dialect.controls()) {
    if (tokenizer.find(control)) continue;
    const bool needed =
        is_think_tag(control)
            ? text.find(control) != text.npos
            : std::any_of(own.begin(), own.end(), [&](const auto& stretch) {
                return std::string_view(text).substr(stretch.first, stretch.second - stretch.first).find(control) !=
                       std::string_view::npos;
              });
    if (needed) {
      return Error{Code::kNotFound,
                   fmt::format("the prompt of dialect {} needs a token that this vocabulary lacks", dialect.name()),
                   "",
                   "",
                   std::string(control),
                   "the dialect does not belong to this model"};
    }
  }
  std::vector<Cut> cuts;
  AddedTokens added(tokenizer);
  for (const auto& [begin, end] : own) added.find_in(std::string_view(text).substr(begin, end - begin), begin, cuts);
  for (std::string_view tag : {"<think>", "</think>"}) {
    const auto id = tokenizer.find(tag);
    if (id && tokenizer.encode(tag, Special::kThink) == std::vector<int32_t>{*id}) find_all(text, tag, *id, cuts);
  }
  std::sort(cuts.begin(), cuts.end(),
            [](const Cut& a, const Cut& b) { return a.begin != b.begin ? a.begin < b.begin : a.end > b.end; });
  std::vector<int32_t> ids;
  size_t at = 0;
  const auto plain_to = [&](size_t end) {
    if (end <= at) return;
    const std::vector<int32_t> some = tokenizer.encode(std::string_view(text).substr(at, end - at), Special::kNone);
    ids.insert(ids.end(), some.begin(), some.end());
  };
  for (const Cut& cut : cuts) {
    if (cut.begin < at) continue;  // found twice, or inside another
    plain_to(cut.begin);
    ids.push_back(cut.id);
    at = cut.end;
  }
  plain_to(text.size());
  return ids;
}

}  // namespace sonde
