#include "files/folder.h"

#include <algorithm>

#include "files/error.h"
#include "files/json.h"

namespace sonde {

using Json = nlohmann::json;

void add_end_tokens(const Json& config, std::vector<int32_t>& ids) {
  const auto add = [&](const Json& value) {
    if (const auto id = token_id(value); id && std::find(ids.begin(), ids.end(), *id) == ids.end()) ids.push_back(*id);
  };
  if (!config.is_object()) return;
  const auto eos = config.find("eos_token_id");
  if (eos == config.end()) return;
  if (eos->is_array())
    std::for_each(eos->begin(), eos->end(), add);
  else
    add(*eos);
}

Result<TokenizerConfig> parse_tokenizer_config(std::string_view text, const std::string& where) {
  SONDE_TRY(const Json json, parse_json(text, where));
  if (!json.is_object()) return corrupt(where, "not a JSON object");
  TokenizerConfig out;
  if (const auto bos = json.find("add_bos_token"); bos != json.end() && bos->is_boolean())
    out.add_bos = bos->get<bool>();
  const auto chat = json.find("chat_template");
  if (chat == json.end()) return out;
  if (chat->is_string()) out.chat_template = chat->get_ref<const std::string&>();
  if (chat->is_array()) {
    for (const Json& named : *chat) {
      if (!named.is_object()) continue;
      const auto body = named.find("template"), name = named.find("name");
      if (body == named.end() || !body->is_string()) continue;
      const bool is_default = name != named.end() && *name == "default";
      if (is_default || out.chat_template.empty()) out.chat_template = body->get_ref<const std::string&>();
      if (is_default) break;
    }
  }
  return out;
}

Result<int64_t> scale_block(const Json& config, const std::string& where) {
  constexpr int64_t kDefault = 128;
  if (!config.is_object()) return kDefault;
  const auto quantisation = config.find("quantization_config");
  if (quantisation == config.end() || !quantisation->is_object()) return kDefault;
  const auto size = quantisation->find("weight_block_size");
  if (size == quantisation->end() || size->is_null()) return kDefault;
  const auto side = [&](std::size_t i) {
    return size->is_array() && size->size() == 2 ? token_id((*size)[i]).value_or(0) : 0;
  };
  if (side(0) <= 0 || side(0) != side(1)) {
    return file_error(Code::kUnsupported, where, "weight_block_size is not that of square blocks", "[128, 128]",
                      size->dump());
  }
  return static_cast<int64_t>(side(0));
}

}  // namespace sonde
