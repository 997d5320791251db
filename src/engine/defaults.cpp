#include "engine/defaults.h"

#include <nlohmann/json.hpp>

#include "sample/validate.h"

namespace sonde {

SamplingOptions default_sampling(const nlohmann::json& config, std::string_view dialect) {
  SamplingOptions o{.temperature = dialect == "deepseek-v3-0324" ? 0.3 : 0.6, .top_p = 0.95};
  if (!config.is_object()) return o;
  // One setting at a time, so that a bad one does not spoil the others.
  const auto take = [&](const char* key, auto SamplingOptions::* field) {
    const auto it = config.find(key);
    if (it == config.end() || !it->is_number()) return;
    SamplingOptions changed = o;
    using Field = std::remove_reference_t<decltype(changed.*field)>;
    const double value = it->get<double>();
    if (!(value >= 0 && value <= 1e9)) return;
    changed.*field = static_cast<Field>(value);
    if (validate(changed, 1).ok()) o = changed;
  };
  // A model whose makers name a temperature and no top_p wants all tokens.
  if (config.contains("temperature") && !config.contains("top_p")) o.top_p = 1;
  take("temperature", &SamplingOptions::temperature);
  take("top_p", &SamplingOptions::top_p);
  take("top_k", &SamplingOptions::top_k);
  take("min_p", &SamplingOptions::min_p);
  take("repetition_penalty", &SamplingOptions::repetition_penalty);
  if (const auto it = config.find("do_sample"); it != config.end() && it->is_boolean() && !it->get<bool>())
    o.temperature = 0;
  return o;
}

SamplingOptions default_sampling(const Checkpoint& checkpoint, const Dialect* dialect) {
  return default_sampling(checkpoint.generation_config(), dialect ? dialect->name() : std::string_view());
}

}  // namespace sonde
