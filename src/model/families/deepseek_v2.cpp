// DeepSeek-V2, V2-Lite, V2.5: latent attention, experts chosen by a softmax gate, in V2 within the best groups of
// devices.
#include "model/families/family.h"

namespace sonde {
namespace {

Status complete(ModelConfig& c) {
  if (!c.is_mla()) return Error{Code::kInvalid, "latent attention needs kv_lora_rank", "config.json", "", "", ""};
  if (c.scoring_func.empty()) c.scoring_func = "softmax";
  if (c.topk_method.empty()) c.topk_method = c.n_group > 1 ? "group_limited_greedy" : "greedy";
  if (c.scoring_func != "softmax")
    return Error{Code::kUnsupported, "unknown scoring_func", "config.json", "softmax", c.scoring_func, ""};
  if (c.topk_method != "greedy" && c.topk_method != "group_limited_greedy")
    return Error{
        Code::kUnsupported, "unknown topk_method", "config.json", "greedy or group_limited_greedy", c.topk_method, ""};
  return {};
}

}  // namespace

extern const Family kDeepseekV2;
const Family kDeepseekV2{"deepseek_v2", complete, load_latent_block};

}  // namespace sonde
