// The multi-token-prediction layer (DeepSeek-V3, section 2.2): drafts the token after next.
#pragma once

#include <memory>

#include "model/families/family.h"

namespace sonde {

// x = eh_proj [ enorm(embedding of t_{i+1}) ; hnorm(final_i) ], one block, shared_head.norm, head.
struct MtpLayer {
  std::vector<float> enorm, hnorm, shared_head_norm;  // [hidden_size]
  Matrix eh_proj;             // [hidden_size, 2 * hidden_size]: embedding first, hidden state second
  Matrix embed_tokens, head;  // its own copies, or the model's
  Block block;

  static Result<std::unique_ptr<MtpLayer>> load(Loader& loader, const Family& family, const Rope& rope,
                                                const Matrix& embed_tokens, const Matrix& lm_head);
};

}  // namespace sonde
