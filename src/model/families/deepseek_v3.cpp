// DeepSeek-V3, R1, V3.1: latent attention, experts chosen by a sigmoid gate with a correction bias, within the best
// groups.
#include "model/families/family.h"

namespace sonde {
namespace {

Status complete(ModelConfig& c) {
  if (!c.is_mla()) return Error{Code::kInvalid, "latent attention needs kv_lora_rank", "config.json", "", "", ""};
  if (c.scoring_func.empty()) c.scoring_func = "sigmoid";
  if (c.topk_method.empty()) c.topk_method = "noaux_tc";
  if (c.scoring_func != "sigmoid")
    return Error{Code::kUnsupported, "unknown scoring_func", "config.json", "sigmoid", c.scoring_func, ""};
  if (c.topk_method != "noaux_tc")
    return Error{Code::kUnsupported, "unknown topk_method", "config.json", "noaux_tc", c.topk_method, ""};
  return {};
}

}  // namespace

extern const Family kDeepseekV3;
const Family kDeepseekV3{"deepseek_v3", complete, load_latent_block};

}  // namespace sonde
