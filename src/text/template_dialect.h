// A dialect that is a checkpoint's own template, interpreted.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "text/jinja.h"
#include "text/output_parser.h"

namespace sonde {

class TemplateDialect final : public Dialect {
 public:
  // Parses the template and renders trial conversations to learn its ways. `tokenizer` may be null.
  static Result<std::shared_ptr<const TemplateDialect>> make(std::string_view source, TemplateVariables variables,
                                                             const Tokenizer* tokenizer);

  std::string_view name() const override { return "template"; }
  Result<Prompt> render(const Conversation& conversation) const override;
  std::unique_ptr<OutputParser> parser(std::string_view prompt_end) const override {
    return make_output_parser(style_, prompt_end);
  }
  std::string_view generation_prompt() const override { return generation_prompt_; }
  bool can_think() const override { return can_think_; }
  bool thinking_switch() const override { return thinking_switch_; }
  std::span<const std::string_view> controls() const override { return controls_; }
  OutputStyle style() const { return style_; }

 private:
  TemplateDialect() = default;
  Status try_out();
  void learn_style(const Tokenizer* tokenizer);
  bool wants_objects() const;

  std::string source_;
  std::unique_ptr<JinjaTemplate> template_;
  TemplateVariables variables_;
  OutputStyle style_;
  std::string generation_prompt_;
  bool can_think_ = false, thinking_switch_ = false;
  bool object_arguments_ = false;  // the template prints arguments as JSON: they are parsed before it sees them
  std::vector<std::string_view> controls_;  // into source_
};

}  // namespace sonde
