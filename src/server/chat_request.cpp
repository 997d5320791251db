#include "server/chat_request.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>

namespace sonde {
namespace {

constexpr std::size_t kMaxMessages = 10000, kMaxStops = 16, kMaxTools = 128;
// Of the JSON, looked at before it is built. Objects keep the order of their keys, and look each new one up among those
// before it: kMaxKeys bounds the keys of one object, kMaxLookups the comparisons of all together (some 0.1 s).
constexpr int kMaxDepth = 64, kMaxKeys = 512;
constexpr int64_t kMaxLookups = int64_t{1} << 24;

Error bad(const std::string& field, std::string expected, std::string found) {
  if (found.size() > 80) found = found.substr(0, 77) + "...";
  return Error{Code::kInvalid, "bad request field", field, std::move(expected), std::move(found), ""};
}
std::string show(const OrderedJson& value) { return value.dump(-1, ' ', false, OrderedJson::error_handler_t::replace); }

Status check_shape(std::string_view text) {
  std::array<int, kMaxDepth + 1> keys{};
  int depth = 0;
  int64_t lookups = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxDepth) return bad("body", fmt::format("JSON nested at most {} deep", kMaxDepth), "deeper");
      keys[std::size_t(depth)] = 0;
    } else if (c == ']' || c == '}') {
      if (--depth < 0) return bad("body", "a JSON object", "not JSON");
    } else if (c == ':') {
      lookups += keys[std::size_t(depth)]++;
      if (keys[std::size_t(depth)] > kMaxKeys)
        return bad("body", fmt::format("at most {} keys in an object", kMaxKeys), "more");
      if (lookups > kMaxLookups) return bad("body", "fewer objects of many keys", "more than can be read in good time");
    }
  }
  return {};
}

class Fields {
 public:
  explicit Fields(const OrderedJson& object, std::string prefix = "") : object_(object), prefix_(std::move(prefix)) {}
  const OrderedJson* get(const char* key) const {
    const auto at = object_.find(key);
    return at == object_.end() || at->is_null() ? nullptr : &*at;
  }
  Status number(const char* key, double least, double most, std::optional<double>& out) const {
    const OrderedJson* v = get(key);
    if (!v) return {};
    const double value = v->is_number() ? v->get<double>() : NAN;
    if (!(value >= least && value <= most))
      return bad(prefix_ + key, fmt::format("a number from {} to {}", least, most), show(*v));
    out = value;
    return {};
  }
  template <class T>
  Status integer(const char* key, double least, double most, std::optional<T>& out) const {
    std::optional<double> value;
    SONDE_CHECK(number(key, least, most, value));
    if (!value) return {};
    if (*value != std::floor(*value)) return bad(prefix_ + key, "an integer", show(*get(key)));
    out = T(*value);
    return {};
  }
  Status boolean(const char* key, bool& out) const {
    const OrderedJson* v = get(key);
    if (!v) return {};
    if (!v->is_boolean()) return bad(prefix_ + key, "true or false", show(*v));
    out = v->get<bool>();
    return {};
  }

 private:
  const OrderedJson& object_;
  std::string prefix_;
};

constexpr const char* kRoles = "system, user, assistant or tool";

Status read_messages(const OrderedJson& body, Conversation& conversation) {
  const auto at = body.find("messages");
  if (at == body.end() || !at->is_array() || at->empty())
    return bad("messages", "a list of at least one message", at == body.end() ? "nothing" : show(*at));
  if (at->size() > kMaxMessages)
    return bad("messages", fmt::format("at most {} messages", kMaxMessages), fmt::format("{}", at->size()));
  for (std::size_t i = 0; i < at->size(); ++i) {
    const OrderedJson& message = (*at)[i];
    const std::string field = fmt::format("messages[{}]", i);
    if (!message.is_object()) return bad(field, "an object", show(message));
    const auto role = message.find("role");
    if (role == message.end() || !role->is_string())
      return bad(field + ".role", kRoles, role == message.end() ? "nothing" : show(*role));
    const std::string& name = role->get_ref<const std::string&>();
    if (name != "system" && name != "developer" && name != "user" && name != "assistant" && name != "tool")
      return bad(field + ".role", kRoles, name);
    const auto content = message.find("content");
    if (content == message.end() || content->is_null() || content->is_string()) continue;
    if (!content->is_array()) return bad(field + ".content", "a text or a list of parts", show(*content));
    for (const OrderedJson& part : *content) {
      if (!part.is_object() || part.value("type", OrderedJson()) != "text" ||
          !part.value("text", OrderedJson()).is_string())
        return bad(field + ".content", "parts {\"type\": \"text\", \"text\": ...}: this model reads text only",
                   show(part));
    }
  }
  conversation.messages = *at;
  for (OrderedJson& message : conversation.messages)
    if (message["role"] == "developer") message["role"] = "system";  // OpenAI's later name for it
  return {};
}

Status read_sampling(const OrderedJson& body, SamplingFields& out) {
  const Fields in(body);
  SONDE_CHECK(in.number("temperature", 0, 2, out.temperature));
  SONDE_CHECK(in.number("top_p", 0, 1, out.top_p));
  SONDE_CHECK(in.number("min_p", 0, 1, out.min_p));
  SONDE_CHECK(in.integer("top_k", 0, 1e6, out.top_k));
  SONDE_CHECK(in.number("repetition_penalty", 0.01, 10, out.repetition_penalty));
  SONDE_CHECK(in.number("presence_penalty", -2, 2, out.presence_penalty));
  SONDE_CHECK(in.number("frequency_penalty", -2, 2, out.frequency_penalty));
  if (const OrderedJson* seed = in.get("seed")) {
    if (!seed->is_number_integer()) return bad("seed", "an integer", show(*seed));
    out.seed = seed->is_number_unsigned() ? seed->get<uint64_t>() : uint64_t(seed->get<int64_t>());
  }
  if (const OrderedJson* bias = in.get("logit_bias")) {
    if (!bias->is_object()) return bad("logit_bias", "an object of token ids and numbers", show(*bias));
    for (const auto& [key, value] : bias->items()) {
      int32_t id = 0;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (error != std::errc{} || end != key.data() + key.size() || id < 0)
        return bad("logit_bias", "token ids as keys", key);
      if (!value.is_number() || std::abs(value.get<double>()) > 100)
        return bad("logit_bias", "numbers from -100 to 100", show(value));
      out.logit_bias[id] = value.get<double>();
    }
  }
  return {};
}

}  // namespace

void SamplingFields::apply(SamplingOptions& options) const {
  if (temperature) options.temperature = *temperature;
  if (top_p && *top_p > 0) options.top_p = *top_p;
  if (min_p) options.min_p = std::min(*min_p, 0.999999);
  if (top_k) options.top_k = *top_k;
  if (repetition_penalty) options.repetition_penalty = *repetition_penalty;
  if (presence_penalty) options.presence_penalty = *presence_penalty;
  if (frequency_penalty) options.frequency_penalty = *frequency_penalty;
  if (seed) options.seed = *seed;
  for (const auto& [id, bias] : logit_bias) options.logit_bias[id] = bias;
}

Result<ChatRequest> parse_chat_request(std::string_view text) {
  SONDE_CHECK(check_shape(text));
  const OrderedJson body = OrderedJson::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!body.is_object()) return bad("body", "a JSON object", body.is_discarded() ? "not JSON" : show(body));
  ChatRequest out;
  const Fields in(body);
  if (const OrderedJson* model = in.get("model"); model && model->is_string()) out.model = model->get<std::string>();
  SONDE_CHECK(read_messages(body, out.conversation));
  SONDE_CHECK(read_sampling(body, out.sampling));
  SONDE_CHECK(in.boolean("stream", out.stream));
  if (const OrderedJson* options = in.get("stream_options"); options && options->is_object())
    SONDE_CHECK(Fields(*options, "stream_options.").boolean("include_usage", out.include_usage));
  SONDE_CHECK(in.integer("max_tokens", 1, 1e9, out.max_tokens));
  SONDE_CHECK(in.integer("max_completion_tokens", 1, 1e9, out.max_tokens));
  SONDE_CHECK(in.integer("thinking_budget", 0, 1e9, out.thinking_budget));
  std::optional<int> n;
  SONDE_CHECK(in.integer("n", 1, 128, n));
  if (n && *n != 1) return bad("n", "1: send several requests instead", fmt::format("{}", *n));

  if (const OrderedJson* stop = in.get("stop")) {
    const OrderedJson list = stop->is_string() ? OrderedJson::array({*stop}) : *stop;
    if (!list.is_array() || list.size() > kMaxStops)
      return bad("stop", fmt::format("a text or a list of at most {}", kMaxStops), show(*stop));
    for (const OrderedJson& s : list) {
      if (!s.is_string() || s.get_ref<const std::string&>().empty())
        return bad("stop", "texts that are not empty", show(s));
      out.stop.push_back(s.get<std::string>());
    }
  }
  bool logprobs = false;
  std::optional<int> top;
  SONDE_CHECK(in.boolean("logprobs", logprobs));
  SONDE_CHECK(in.integer("top_logprobs", 0, 20, top));
  if (top && !logprobs) return bad("top_logprobs", "logprobs: true beside it", "logprobs: false");
  if (logprobs) out.logprobs = top.value_or(0);

  if (const OrderedJson* tools = in.get("tools")) {
    if (!tools->is_array() || tools->size() > kMaxTools)
      return bad("tools", fmt::format("a list of at most {}", kMaxTools), show(*tools));
    const OrderedJson* choice = in.get("tool_choice");
    if (!tools->empty() && !(choice && *choice == "none")) out.conversation.tools = *tools;
  }
  if (const OrderedJson* thinking = in.get("thinking")) {
    const OrderedJson type = thinking->is_object() ? thinking->value("type", OrderedJson()) : OrderedJson();
    if (type != "enabled" && type != "disabled" && type != "auto")
      return bad("thinking", "{\"type\": \"enabled\"} or {\"type\": \"disabled\"}", show(*thinking));
    if (type != "auto") out.conversation.thinking = type == "enabled";
  }
  repair(out.conversation);
  return out;
}

}  // namespace sonde
