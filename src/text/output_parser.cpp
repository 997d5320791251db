#include "text/output_parser.h"

#include <algorithm>

#include "text/dialects/deepseek.h"
#include "text/python_text.h"

namespace sonde {
namespace {

using deepseek::kThink;
using deepseek::kThinkEnd;

// What follows the thought: content and calls.
class ContentReader {
 public:
  virtual ~ContentReader() = default;
  virtual void push(std::string_view text, MessageDelta& delta) = 0;
  virtual void finish(MessageDelta& delta, std::string& error) = 0;

 protected:
  void add_call(ToolCallText call, MessageDelta& delta) {
    delta.tool_calls.push_back({calls_++, std::move(call.name), std::move(call.arguments)});
  }
  int calls_ = 0;
};

class PlainReader final : public ContentReader {
 public:
  void push(std::string_view text, MessageDelta& delta) override { delta.content += text; }
  void finish(MessageDelta&, std::string&) override {}
};

// Text, then BEGIN ... END. White space in front of a block belongs to it, so it is held back until something else
// follows.
class BlockReader : public ContentReader {
 public:
  BlockReader(std::string_view begin, std::string_view end, std::string_view space)
      : begin_(begin), end_(end), space_(space) {}

  void push(std::string_view text, MessageDelta& delta) override {
    if (state_ == State::kRest) {
      take_rest(text, delta);
      return;
    }
    pending_ += text;
    while (state_ == State::kText ? read_text(delta) : state_ == State::kBlock && read_block(delta)) {}
  }

  void finish(MessageDelta& delta, std::string& error) override {
    if (state_ == State::kBlock) delta.content += held_ + std::string(begin_) + pending_;
    if (state_ == State::kText && (pending_.find_first_not_of(space_) != pending_.npos || !drops_end()))
      delta.content += pending_;
    pending_.clear();
    held_.clear();
    finish_rest(error);
  }

 protected:
  enum class State { kText, kBlock, kRest };
  // A whole block: emits its calls and says where reading goes on, or nothing when it is malformed.
  virtual std::optional<State> read_body(std::string_view body, MessageDelta& delta) = 0;
  virtual State after_malformed() const = 0;
  virtual void take_rest(std::string_view text, MessageDelta& delta) = 0;
  virtual void finish_rest(std::string&) {}
  virtual bool drops_end() const { return false; }  // white space at the very end is dropped

 private:
  bool read_text(MessageDelta& delta) {
    const size_t at = pending_.find(begin_);
    const size_t known = at == std::string::npos ? pending_.size() - partial_marker(pending_, begin_) : at;
    const size_t last = std::string_view(pending_).substr(0, known).find_last_not_of(space_);
    const size_t sure = last == std::string::npos ? 0 : last + 1;
    delta.content.append(pending_, 0, sure);
    if (at == std::string::npos) {
      pending_.erase(0, sure);
      return false;
    }
    held_ = pending_.substr(sure, at - sure);
    pending_.erase(0, at + begin_.size());
    searched_ = 0;
    state_ = State::kBlock;
    return true;
  }

  bool read_block(MessageDelta& delta) {
    const size_t at = pending_.find(end_, searched_);
    if (at == std::string::npos) {
      searched_ = pending_.size() - std::min(pending_.size(), end_.size() - 1);
      return false;
    }
    const std::string body = pending_.substr(0, at);
    pending_.erase(0, at + end_.size());
    if (const auto next = read_body(body, delta)) {
      state_ = *next;
    } else {
      delta.content += held_ + std::string(begin_) + body + std::string(end_);
      state_ = after_malformed();
    }
    held_.clear();
    if (state_ != State::kRest) return true;
    const std::string rest = std::move(pending_);
    pending_.clear();
    take_rest(rest, delta);
    return false;
  }

  std::string_view begin_, end_, space_;
  State state_ = State::kText;
  std::string pending_, held_;
  size_t searched_ = 0;
};

// One block counts; after it nothing but white space may come. A malformed block makes everything plain text.
class DeepseekReader final : public BlockReader {
 public:
  explicit DeepseekReader(bool fenced)
      : BlockReader(deepseek::kCallsBegin, deepseek::kCallsEnd, "\n"), fenced_(fenced) {}

 private:
  std::optional<State> read_body(std::string_view body, MessageDelta& delta) override {
    auto calls = parse_deepseek_calls(body, fenced_);
    if (!calls) return std::nullopt;
    for (ToolCallText& call : *calls) add_call(std::move(call), delta);
    return State::kRest;
  }
  State after_malformed() const override { return State::kRest; }
  void take_rest(std::string_view text, MessageDelta& delta) override {
    if (calls_ == 0) {
      delta.content += text;
    } else {
      after_ += text;
    }
  }
  void finish_rest(std::string& error) override {
    if (!python_strip(after_).empty()) error = "text after the tool calls";
  }

  bool fenced_;
  std::string after_;
};

// Any number of blocks, one call each, white space between them.
class HermesReader final : public BlockReader {
 public:
  HermesReader() : BlockReader("<tool_call>", "</tool_call>", " \t\r\n") {}

 private:
  std::optional<State> read_body(std::string_view body, MessageDelta& delta) override {
    auto call = parse_json_call(body, "arguments");
    if (!call) return std::nullopt;
    add_call(std::move(*call), delta);
    return State::kText;
  }
  State after_malformed() const override { return State::kText; }
  void take_rest(std::string_view, MessageDelta&) override {}
  bool drops_end() const override { return calls_ > 0; }
};

// An answer that begins like a call is held back to its end: only the whole of it says whether it is one.
class LlamaReader final : public ContentReader {
 public:
  void push(std::string_view text, MessageDelta& delta) override {
    if (plain_) {
      delta.content += text;
      return;
    }
    pending_ += text;
    if (!could_be_call()) {
      plain_ = true;
      delta.content += pending_;
      pending_.clear();
    }
  }

  void finish(MessageDelta& delta, std::string&) override {
    if (plain_) return;
    std::string_view text = lstrip_of(pending_, kSpace);
    if (text.starts_with(kTag)) text.remove_prefix(kTag.size());
    auto call = parse_json_call(text, "parameters");
    if (call) {
      add_call(std::move(*call), delta);
    } else {
      delta.content += pending_;
    }
    pending_.clear();
  }

 private:
  static constexpr std::string_view kSpace = " \t\r\n", kTag = "<|python_tag|>";

  bool could_be_call() {
    if (decided_) return true;
    std::string_view text = lstrip_of(pending_, kSpace);
    if (text.size() < kTag.size() && kTag.starts_with(text)) return true;
    if (text.starts_with(kTag)) text.remove_prefix(kTag.size());
    std::string compact;
    for (char c : text.substr(0, 64)) {
      if (kSpace.find(c) == kSpace.npos) compact += c;
    }
    for (std::string_view start : {"{\"name\":", "{\"type\":", "{\"parameters\":"}) {
      if (compact.starts_with(start)) return decided_ = true;
      if (start.starts_with(compact) && text.size() <= 64) return true;
    }
    return false;
  }

  bool plain_ = false, decided_ = false;
  std::string pending_;
};

std::unique_ptr<ContentReader> make_reader(Calls calls) {
  switch (calls) {
    case Calls::kDeepseekFenced:
      return std::make_unique<DeepseekReader>(true);
    case Calls::kDeepseekPlain:
      return std::make_unique<DeepseekReader>(false);
    case Calls::kHermes:
      return std::make_unique<HermesReader>();
    case Calls::kLlamaJson:
      return std::make_unique<LlamaReader>();
    case Calls::kNone:
      break;
  }
  return std::make_unique<PlainReader>();
}

class StreamParser final : public OutputParser {
 public:
  StreamParser(OutputStyle style, std::optional<bool> thought) : reader_(make_reader(style.calls)) {
    const bool all_content = style.reasoning == Reasoning::kNone || thought == false;
    opened_ = !all_content && thought == true;
    state_ = all_content ? State::kContent : State::kStart;
    message_.reasoning_content = "";
  }

  MessageDelta push(std::string_view text) override {
    MessageDelta delta;
    read(text, delta);
    add(delta);
    return delta;
  }

  MessageDelta finish(bool cut_by_limit) override {
    MessageDelta delta;
    bool unclosed = false;
    if (state_ == State::kStart && !opened_) {
      state_ = State::kContent;
      read({}, delta);
    } else if (state_ == State::kStart) {
      trim(2);
      delta.reasoning_content += pending_;
      unclosed = true;
    } else if (state_ == State::kTrimThought || state_ == State::kThought) {
      delta.reasoning_content += pending_;
      unclosed = true;
    }
    pending_.clear();
    reader_->finish(delta, message_.error);
    add(delta);
    message_.finish_reason = !message_.tool_calls.empty() ? "tool_calls" : cut_by_limit || unclosed ? "length" : "stop";
    return delta;
  }

  const ParsedMessage& message() const override { return message_; }
  bool thinking() const override {
    return state_ == State::kTrimThought || state_ == State::kThought || (state_ == State::kStart && opened_);
  }

 private:
  enum class State { kStart, kTrimThought, kThought, kTrimContent, kContent };

  // Takes away leading newlines of pending_, at most `left`; returns how many may still go.
  int trim(int left) {
    size_t n = 0;
    while (left > 0 && n < pending_.size() && pending_[n] == '\n') {
      ++n;
      --left;
    }
    pending_.erase(0, n);
    return left;
  }

  void read(std::string_view text, MessageDelta& delta) {
    pending_ += text;
    while (step(delta)) {}
  }

  // One move of the machine; false when it needs more text.
  bool step(MessageDelta& delta) {
    switch (state_) {
      case State::kStart:
        return read_start();
      case State::kTrimThought:
      case State::kTrimContent:
        left_ = trim(left_);
        if (pending_.empty() && left_ > 0) return false;
        state_ = state_ == State::kTrimThought ? State::kThought : State::kContent;
        return true;
      case State::kThought:
        return read_thought(delta);
      case State::kContent:
        if (!pending_.empty()) reader_->push(pending_, delta);
        pending_.clear();
        return false;
    }
    return false;
  }

  bool read_start() {
    const size_t at = std::min(pending_.find_first_not_of('\n'), pending_.size());
    const std::string_view rest = std::string_view(pending_).substr(at);
    if (rest.size() < kThink.size() && kThink.starts_with(rest)) return false;
    left_ = 2;
    if (rest.starts_with(kThink)) {
      pending_.erase(0, at + kThink.size());
      state_ = State::kTrimThought;
    } else {
      state_ = opened_ ? State::kTrimThought : State::kContent;
    }
    return true;
  }

  bool read_thought(MessageDelta& delta) {
    const size_t at = pending_.find(kThinkEnd);
    const size_t sure = at == std::string::npos ? pending_.size() - partial_marker(pending_, kThinkEnd) : at;
    delta.reasoning_content.append(pending_, 0, sure);
    pending_.erase(0, at == std::string::npos ? sure : sure + kThinkEnd.size());
    if (at == std::string::npos) return false;
    left_ = 2;
    state_ = State::kTrimContent;
    return true;
  }

  void add(const MessageDelta& delta) {
    *message_.reasoning_content += delta.reasoning_content;
    message_.content += delta.content;
    for (const auto& call : delta.tool_calls) {
      if (static_cast<size_t>(call.index) == message_.tool_calls.size()) message_.tool_calls.push_back({call.name, {}});
      message_.tool_calls.back().arguments += call.arguments;
    }
  }

  std::unique_ptr<ContentReader> reader_;
  bool opened_ = false;
  State state_ = State::kContent;
  int left_ = 0;  // newlines that may still be taken away
  std::string pending_;
  ParsedMessage message_;
};

}  // namespace

size_t partial_marker(std::string_view text, std::string_view marker) {
  for (size_t n = std::min(text.size(), marker.size() - 1); n > 0; --n) {
    if (marker.starts_with(text.substr(text.size() - n))) return n;
  }
  return 0;
}

std::optional<bool> thought_at_end(std::string_view prompt_end) {
  prompt_end = python_rstrip(prompt_end);
  if (prompt_end.ends_with(kThink)) return true;
  if (prompt_end.ends_with(kThinkEnd)) return false;
  return std::nullopt;
}

std::unique_ptr<OutputParser> make_output_parser(OutputStyle style, std::string_view prompt_end) {
  return std::make_unique<StreamParser>(style, thought_at_end(prompt_end));
}

}  // namespace sonde
