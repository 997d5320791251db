// Chat dialects: a conversation -> the exact prompt; raw output tokens -> reasoning, answer, tool calls. One file each.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sonde/result.h"
#include "text/tokenizer.h"

namespace sonde {

// Keys keep their order: templates print tools and arguments as they came.
using OrderedJson = nlohmann::ordered_json;

struct Conversation {
  OrderedJson
      messages;       // array of {"role", "content", "reasoning_content"?, "tool_calls"?, "tool_call_id"?, "name"? ...}
  OrderedJson tools;  // array or null
  std::optional<bool> thinking;  // unset: the dialect's own default
  bool add_generation_prompt = true;
};

// A prompt in pieces: text written by the template (control tokens count there) and text that came from messages.
struct PromptPart {
  std::string text;
  bool trusted;
};
struct Prompt {
  std::vector<PromptPart> parts;
  std::string text() const;  // all parts joined
};

struct ToolCallText {
  std::string name, arguments;  // arguments: JSON text as the model wrote it
};
struct ParsedMessage {
  std::optional<std::string> reasoning_content;  // as in golden/chat/parse.jsonl
  std::string content;
  std::vector<ToolCallText> tool_calls;
  std::string finish_reason;  // "stop", "tool_calls", "length"
  std::string error;          // after finish(): why the output breaks its own format; empty: it does not
};
// What one piece of output adds.
struct MessageDelta {
  std::string reasoning_content, content;
  struct Call {
    int index;
    std::string name, arguments;
  };  // name on the first delta of a call; arguments are appended
  std::vector<Call> tool_calls;
};

// Turns output into a message as it comes. The sum of the deltas is the same for every split of the stream.
class OutputParser {
 public:
  virtual ~OutputParser() = default;
  virtual MessageDelta push(std::string_view text) = 0;
  virtual MessageDelta finish(bool cut_by_limit) = 0;  // flushes what was held back
  virtual const ParsedMessage& message() const = 0;    // whole after finish()
  virtual bool thinking() const = 0;                   // inside the reasoning now
};

class Dialect {
 public:
  virtual ~Dialect() = default;
  virtual std::string_view name() const = 0;  // "deepseek-r1", "qwen2.5" ... or "template" for an interpreted one
  // Strict: where the published template raises, this is an error with its words.
  virtual Result<Prompt> render(const Conversation& conversation) const = 0;
  // A parser for output that follows a prompt ending with `prompt_end` (think tag open or not).
  virtual std::unique_ptr<OutputParser> parser(std::string_view prompt_end) const = 0;
  // How this dialect's own generation prompt ends (what `parse` assumes when a line names no prompt_end).
  virtual std::string_view generation_prompt() const = 0;
  virtual bool can_think() const = 0;        // the model may produce <think> ... </think>
  virtual bool thinking_switch() const = 0;  // `thinking` changes the prompt
  // Control and think tokens that its prompts may contain; encode_prompt demands those that a prompt does contain.
  virtual std::span<const std::string_view> controls() const = 0;
};

// The names for --dialect, in order.
std::vector<std::string_view> dialect_names();
// A native dialect by name; unknown is an error naming all.
Result<std::shared_ptr<const Dialect>> dialect_by_name(std::string_view name);

struct ChosenDialect {
  std::shared_ptr<const Dialect> dialect;
  std::string notice;  // one line for stderr; empty when the template is known word for word
};
// The dialect of a checkpoint: its template known word for word, else interpreted; an error naming --dialect's values
// where neither works. `tokenizer` may be null (then control tokens are judged by the template's text).
Result<ChosenDialect> choose_dialect(const Checkpoint& checkpoint, const Tokenizer* tokenizer);

// Ids of a prompt: control tokens match in trusted parts only, think tags everywhere, words are never joined across a
// control token. An error when the prompt needs a control token that the vocabulary lacks.
Result<std::vector<int32_t>> encode_prompt(const Prompt& prompt, const Dialect& dialect, const Tokenizer& tokenizer);

// Mends what a server may mend before render(): null content -> "", absent fields, text parts -> one text.
void repair(Conversation& conversation);

}  // namespace sonde
