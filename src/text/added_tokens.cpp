#include "text/added_tokens.h"

#include "text/unicode.h"

namespace sonde {
namespace {

// The last character of a text that is not empty and valid.
size_t last_character(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

bool word_at_end(std::string_view text) {
  return !text.empty() && is_word(next_utf8(text.substr(last_character(text))).code);
}
bool word_at_start(std::string_view text) { return !text.empty() && is_word(next_utf8(text).code); }

}  // namespace

bool looks_like_control(const AddedToken& token) {
  if (token.special) return true;
  std::string_view text = token.content;
  for (std::string_view bar : {"|", "\xEF\xBD\x9C"}) {
    std::string open = "<" + std::string(bar), close = std::string(bar) + ">";
    if (text.size() > open.size() + close.size() && text.starts_with(open) && text.ends_with(close)) return true;
  }
  return false;
}

bool is_plain_letter(const AddedToken& token) {
  if (token.special || token.filler || token.content.empty()) return false;
  Utf8Step step = next_utf8(token.content);
  return step.valid && static_cast<size_t>(step.length) == token.content.size();
}

void TokenFinder::add(const AddedToken& token) {
  if (token.content.empty() || token.filler || !valid_utf8(token.content)) return;
  uint32_t at = 0;
  for (char c : token.content) {
    auto byte = static_cast<uint8_t>(c);
    uint32_t found = 0;
    for (const auto& [key, node] : nodes_[at].next) {
      if (key == byte) found = node;
    }
    if (found == 0) {
      found = static_cast<uint32_t>(nodes_.size());
      nodes_.emplace_back();
      nodes_[at].next.emplace_back(byte, found);
    }
    at = found;
  }
  first_[static_cast<uint8_t>(token.content[0])] = 0;
  for (const auto& [key, node] : nodes_[0].next) first_[key] = node;
  if (nodes_[at].token < 0) {
    nodes_[at].token = static_cast<int32_t>(tokens_.size());
    tokens_.push_back(token);
  }
}

void TokenFinder::find(std::string_view text, std::vector<Found>& out) const {
  out.clear();
  size_t done = 0;  // end of the last match, with the white space it took up
  for (size_t at = 0; at < text.size();) {
    uint32_t node = first_[static_cast<uint8_t>(text[at])];
    if (node == 0) {
      ++at;
      continue;
    }
    int32_t best = -1;
    size_t best_end = 0;
    for (size_t i = at + 1;; ++i) {
      if (nodes_[node].token >= 0) best = nodes_[node].token, best_end = i;
      if (i >= text.size()) break;
      uint32_t next = 0;
      for (const auto& [key, child] : nodes_[node].next) {
        if (key == static_cast<uint8_t>(text[i])) {
          next = child;
          break;
        }
      }
      if (next == 0) break;
      node = next;
    }
    if (best < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<size_t>(best)];
    size_t start = at, end = best_end;
    at = best_end;
    if (token.single_word && (word_at_end(text.substr(0, start)) || word_at_start(text.substr(end)))) continue;
    if (token.lstrip) {
      while (start > done) {
        size_t before = last_character(text.substr(0, start));
        if (before < done || !is_white_space(next_utf8(text.substr(before)).code)) break;
        start = before;
      }
    }
    if (token.rstrip) {
      while (end < text.size()) {
        Utf8Step step = next_utf8(text.substr(end));
        if (!is_white_space(step.code)) break;
        end += static_cast<size_t>(step.length);
      }
      at = end;
    }
    out.push_back({start, end, token.id});
    done = end;
  }
}

}  // namespace sonde
