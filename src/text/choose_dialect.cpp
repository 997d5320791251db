// Which dialect a checkpoint speaks.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <openssl/sha.h>
#include <array>

#include "text/dialect.h"
#include "text/template_dialect.h"

namespace sonde {
namespace {

struct Known {
  std::string_view sha256;  // of the template without newlines at its end
  std::string_view dialect;
};

constexpr std::array kKnown = {
    Known{"8aeba567270fa9a8d5372caf4b04affea947c4421d96adc01e3ff94021b0ae8e", "deepseek-v2"},
    Known{"b6393ba31b03906b9c898fca7fe9c1179f11d2390787797764eec36766e3564a", "deepseek-v2.5"},
    Known{"3b8267e54b67df6500f231ffa969955cc9d26b3444a291ced4eb96ca7d3ca1ea", "deepseek-v3"},
    Known{"86c9eb894f13402f6a30ad06ba7b05d436db0c7e1cc2ba84791a957fb4f6210d", "deepseek-v3-0324"},
    Known{"5b7a90c17faa4288745d78ec7097e9a571a3bb7cddc0ab0282d552bd63c7fb51", "deepseek-r1"},
    Known{"f04e2c07c639ea5fb4d3ce97d23b64236bf28b2a7b28a280e41176abf393f5fb", "deepseek-r1-0528"},
    Known{"37cabd20b2b62e3efe7fa55533ef0bc6e1eae63b60cf77265b2a09632aa1358d", "deepseek-v3.1"},
    Known{"56a1447ad31926fdc21fb07e56e5642bd9c850c4f52d8c8af7bbe5f079a84f5f", "r1-distill-qwen"},
    Known{"55b2f4a26ac9ee719330a61a0c39d9e538b0e9322212f048326318cff4f8674a", "qwen2.5"},
    Known{"87a2728cb8dc9fe424d624542f6060ec05a1d285ebbec578bb078900e33396b5", "qwen3"},
    Known{"b48c47f6443892716176eb200bf4ef108f64e06ca26ed0fa8ebc0a4b3992fcb2", "llama3"},
    Known{"93c0e9aa3629bbd77e68dbc0f5621f6e6b23aa8d74b932595cdb8d64684526d7", "llama3.1"},
    Known{"872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788", "smollm2"},
};

std::string sha256(std::string_view text) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return fmt::format("{:02x}", fmt::join(digest, ""));
}

// The distills share one template: the model's kind, else its vocabulary, says which one it is.
bool is_llama(const Checkpoint& checkpoint, const Tokenizer* tokenizer) {
  const nlohmann::json& config = checkpoint.config();
  if (config.is_object() && config.contains("model_type") && config["model_type"].is_string())
    return config["model_type"] == "llama";
  return tokenizer && !tokenizer->find("<|fim_prefix|>");  // Qwen's vocabulary keeps it
}

// The special tokens of tokenizer_config.json, else of the vocabulary.
TemplateVariables special_tokens(const Checkpoint& checkpoint, const Tokenizer* tokenizer) {
  TemplateVariables variables;
  const auto config = nlohmann::json::parse(checkpoint.tokenizer().tokenizer_config, nullptr, false);
  const auto add = [&](const char* name, std::optional<int32_t> id) {
    std::string text;
    if (config.is_object() && config.contains(name)) {
      const nlohmann::json& value = config[name];
      if (value.is_string()) text = value.get<std::string>();
      if (value.is_object() && value.contains("content") && value["content"].is_string())
        text = value["content"].get<std::string>();
    } else if (id && tokenizer) {
      text = tokenizer->piece(*id);
    } else {
      return;
    }
    variables.emplace_back(name, std::move(text));
  };
  add("bos_token", tokenizer ? tokenizer->bos() : std::nullopt);
  add("eos_token", tokenizer ? tokenizer->eos() : std::nullopt);
  add("unk_token", std::nullopt);
  add("pad_token", std::nullopt);
  return variables;
}

std::string describe(const TemplateDialect& dialect) {
  static constexpr std::array<std::string_view, 5> kCalls = {"none", "DeepSeek-V3 blocks", "DeepSeek-V3.1 blocks",
                                                             "<tool_call> JSON", "JSON answers"};
  std::string thoughts = "none";
  if (dialect.style().reasoning == Reasoning::kTags) {
    const auto open = thought_at_end(dialect.generation_prompt());
    thoughts = !open ? "where the model opens them" : *open ? "opened by the prompt" : "closed by the prompt";
  }
  return fmt::format(
      "the chat template is not a published one known here, it is interpreted; thoughts: {}; tool calls: {}", thoughts,
      kCalls[static_cast<size_t>(dialect.style().calls)]);
}

std::string dialect_hint() {
  return fmt::format("name a dialect with --dialect: {}", fmt::join(dialect_names(), ", "));
}

}  // namespace

Result<ChosenDialect> choose_dialect(const Checkpoint& checkpoint, const Tokenizer* tokenizer) {
  std::string_view source = checkpoint.chat_template();
  if (source.empty())
    return Error{Code::kUnsupported, "there is no chat template", checkpoint.path(), "", "", dialect_hint()};
  std::string_view trimmed = source;
  while (trimmed.ends_with('\n') || trimmed.ends_with('\r')) trimmed.remove_suffix(1);
  const std::string digest = sha256(trimmed);
  for (const Known& known : kKnown) {
    if (known.sha256 != digest) continue;
    const bool llama = known.dialect == "r1-distill-qwen" && is_llama(checkpoint, tokenizer);
    SONDE_TRY(auto dialect, dialect_by_name(llama ? "r1-distill-llama" : known.dialect));
    // A published template on a vocabulary with other names for its tokens: those go through the interpreter.
    if (tokenizer && !tokenizer->find(dialect->controls().front())) break;
    return ChosenDialect{std::move(dialect), ""};
  }
  auto dialect = TemplateDialect::make(source, special_tokens(checkpoint, tokenizer), tokenizer);
  if (!dialect.ok()) {
    Error error = std::move(dialect).error().in(checkpoint.path());
    error.code = Code::kUnsupported;
    error.hint = dialect_hint();
    return error;
  }
  std::string notice = describe(*dialect.value());
  return ChosenDialect{std::move(dialect).value(), std::move(notice)};
}

}  // namespace sonde
