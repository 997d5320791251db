// Chat templates written in Jinja: the part of the language that they use, rendered as the published renderer does it.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sonde/result.h"
#include "text/dialect.h"

namespace sonde {

namespace jinja {
struct Node;
}

// Values that a template sees besides the conversation; the template's own, so control tokens count in them.
using TemplateVariables = std::vector<std::pair<std::string, std::string>>;

class JinjaTemplate {
 public:
  static Result<std::unique_ptr<JinjaTemplate>> parse(std::string_view source);
  ~JinjaTemplate();
  // messages, tools, add_generation_prompt, `variables` (bos_token, eos_token ...), thinking and enable_thinking where
  // they are set.
  Result<Prompt> render(const Conversation& conversation, const TemplateVariables& variables) const;
  // Smaller bounds, for texts from strangers (fuzzing).
  void limit(int64_t steps, int64_t bytes);

 private:
  JinjaTemplate();
  std::vector<std::unique_ptr<jinja::Node>> nodes_;
  int64_t steps_ = 0, bytes_ = 0;  // 0: the usual bounds
};

}  // namespace sonde
