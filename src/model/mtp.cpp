#include "model/mtp.h"

namespace sonde {

Result<std::unique_ptr<MtpLayer>> MtpLayer::load(Loader& in, const Family& family, const Rope& rope,
                                                 const Matrix& embed_tokens, const Matrix& lm_head) {
  const ModelConfig& c = in.config();
  const int64_t layer = c.num_hidden_layers, hidden = c.hidden_size;
  const auto name = [&](const char* rest) { return layer_name(layer, rest); };
  auto mtp = std::make_unique<MtpLayer>();
  in.count(false);
  SONDE_TRY(mtp->enorm, in.vector(name("enorm.weight"), hidden));
  SONDE_TRY(mtp->hnorm, in.vector(name("hnorm.weight"), hidden));
  SONDE_TRY(mtp->shared_head_norm, in.vector(name("shared_head.norm.weight"), hidden));
  SONDE_TRY(mtp->eh_proj, in.matrix(name("eh_proj.weight"), hidden, 2 * hidden));
  mtp->embed_tokens = embed_tokens, mtp->head = lm_head;
  if (in.has(name("embed_tokens.weight"))) {
    SONDE_TRY(mtp->embed_tokens, in.table(name("embed_tokens.weight"), c.vocab_size, hidden));
  }
  if (in.has(name("shared_head.head.weight"))) {
    SONDE_TRY(mtp->head, in.matrix(name("shared_head.head.weight"), c.vocab_size, hidden));
  }
  SONDE_TRY(mtp->block, family.load_block(in, layer, rope));
  in.count(true);
  return mtp;
}

}  // namespace sonde
