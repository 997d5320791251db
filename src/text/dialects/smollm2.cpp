// SmolLM2: ChatML with a default system message.
#include "text/dialects/chatml.h"

namespace sonde {
namespace {

void render(const Conversation& conversation, PromptWriter& out) {
  bool first = true;
  for (const OrderedJson& message : conversation.messages) {
    if (first && !field_is(message, "role", "system")) {
      out.own("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n");
    }
    first = false;
    out.own("<|im_start|>").field(message, "role").own("\n").field(message, "content").own("<|im_end|>\n");
  }
  if (conversation.add_generation_prompt) out.own("<|im_start|>assistant\n");
}

}  // namespace

const NativeDialect& smollm2() {
  static const NativeDialect dialect = {"smollm2", "<|im_start|>assistant\n",        false,
                                        false,     {Reasoning::kNone, Calls::kNone}, {chatml::kStart, chatml::kEnd},
                                        render};
  return dialect;
}

}  // namespace sonde
