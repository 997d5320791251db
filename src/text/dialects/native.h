// What a dialect written by hand consists of: its words, how it renders, how its output is read.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "text/dialect.h"
#include "text/output_parser.h"

namespace sonde {

// Puts a prompt together and remembers who wrote what. The first failure sticks; its words are those of the published
// template's renderer.
class PromptWriter {
 public:
  PromptWriter& own(std::string_view text) { return add(text, true); }     // the template's words
  PromptWriter& given(std::string_view text) { return add(text, false); }  // text of a message
  PromptWriter& field(const OrderedJson& object, const char* key);  // 'text' + object[key]: a string, nothing else
  PromptWriter& printed(const OrderedJson& object,
                        const char* key);  // {{ object[key] }}: None is "None", absent is nothing
  void fail(std::string what);
  bool failed() const { return failed_; }
  Result<Prompt> take() &&;

 private:
  PromptWriter& add(std::string_view text, bool trusted);
  Prompt prompt_;
  bool failed_ = false;
  std::string what_;
};

// Python's view of JSON values.
const OrderedJson* find_field(const OrderedJson& object, const char* key);  // null when absent
bool field_is(const OrderedJson& object, const char* key, std::string_view text);
bool is_none(const OrderedJson* value);    // present and null
bool is_truthy(const OrderedJson* value);  // absent, null, false, 0, "", [], {} are false
// The string object[key]; anything else fails with `use`: "concatenate" or "search" (what the template does with it).
enum class Use { kConcatenate, kSearch };
std::string_view need_text(const OrderedJson& object, const char* key, Use use, PromptWriter& out);
// The items of object["tool_calls"]; absent: none; null or no list: a failure.
std::vector<const OrderedJson*> calls_of(const OrderedJson& message, PromptWriter& out);
// An object by key inside a tool call; a failure where it is not one.
const OrderedJson& need_object(const OrderedJson& object, const char* key, PromptWriter& out);
std::string_view after_last(std::string_view text, std::string_view mark);  // text.split(mark)[-1]

// The shape of a conversation and its depth, checked before anything is rendered.
Status check_conversation(const Conversation& conversation);

struct NativeDialect {
  std::string_view name;
  std::string_view generation_prompt;
  bool can_think = false, thinking_switch = false;
  OutputStyle output;
  std::vector<std::string_view> controls;
  void (*render)(const Conversation&, PromptWriter&);
};

// The dialects, one file each (closely related ones share a file).
const NativeDialect& deepseek_v2();
const NativeDialect& deepseek_v2_5();
const NativeDialect& deepseek_v3();
const NativeDialect& deepseek_v3_0324();
const NativeDialect& deepseek_r1();
const NativeDialect& deepseek_r1_0528();
const NativeDialect& deepseek_v3_1();
const NativeDialect& r1_distill_qwen();
const NativeDialect& r1_distill_llama();
const NativeDialect& qwen2_5();
const NativeDialect& qwen3();
const NativeDialect& llama3();
const NativeDialect& llama3_1();
const NativeDialect& smollm2();

}  // namespace sonde
