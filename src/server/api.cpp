#include "server/api.h"

#include <fmt/format.h>

#include <chrono>
#include <list>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/random.h"
#include "engine/chat_turn.h"
#include "engine/defaults.h"
#include "server/chat_request.h"
#include "sonde/engine.h"

namespace sonde {
namespace {

std::string dump(const OrderedJson& value) { return value.dump(-1, ' ', false, OrderedJson::error_handler_t::replace); }

int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// 400 for what the client can mend, 500 for what it cannot.
HttpResponse error_response(const Error& error) {
  const bool ours = error.code == Code::kInternal || error.code == Code::kIo;
  return http_error(ours ? 500 : 400, error.message(), ours ? "server_error" : "invalid_request_error",
                    error.code == Code::kInvalid ? error.where : "");
}

OrderedJson usage_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_cache_hit_tokens", usage.cached_tokens},
          {"prompt_cache_miss_tokens", usage.prompt_tokens - usage.cached_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
          {"completion_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}}};
}

// One chat completion from start to finish, on a thread of its own.
class Completion {
 public:
  Completion(Engine& engine, ChatRequest request, std::string model, std::shared_ptr<Responder> responder)
      : engine_(engine),
        request_(std::move(request)),
        model_(std::move(model)),
        responder_(std::move(responder)),
        created_(unix_seconds()) {
    static std::atomic<uint64_t> counter{0};
    const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
    id_ = fmt::format("chatcmpl-{:016x}", Random(uint64_t(now), counter.fetch_add(1)).next_u64());
  }

  // What a library throws ends this answer, not the server.
  void run_guarded(const std::atomic<bool>& stopping, int64_t default_max_tokens) {
    try {
      run(stopping, default_max_tokens);
    } catch (const std::exception& failure) {
      const HttpResponse error = http_error(500, failure.what(), "server_error");
      if (request_.stream) responder_->event(error.body);
      responder_->send(error);  // ignored once a stream has begun
      responder_->end();
    }
  }

 private:
  void run(const std::atomic<bool>& stopping, int64_t default_max_tokens) {
    Request to_engine;
    to_engine.max_tokens = request_.max_tokens.value_or(default_max_tokens);
    to_engine.sampling = default_sampling(engine_.checkpoint(), engine_.dialect());
    request_.sampling.apply(to_engine.sampling);
    to_engine.stop = request_.stop;
    to_engine.logprobs = request_.logprobs;
    if (const Dialect* dialect = engine_.dialect();
        request_.conversation.thinking == false && dialect && dialect->can_think() && !dialect->thinking_switch())
      to_engine.think = {.tokens = 0,
                         .closing = "\n"};  // no switch in the template: an empty thought, as R1's users write it
    if (request_.thinking_budget) to_engine.think.tokens = *request_.thinking_budget;
    auto started = ChatTurn::start(engine_, request_.conversation, std::move(to_engine));
    if (!started.ok()) return responder_->send(error_response(started.error()));
    ChatTurn& turn = **started;

    if (request_.stream) chunk({{"role", "assistant"}, {"content", ""}}, nullptr);
    ChatEvent event;
    bool begun = false;  // the answer; until then the prompt is being read
    OrderedJson logprobs = OrderedJson::array();
    for (int state; (state = turn.next_for(event, 200)) >= 0;) {
      if (responder_->client_left() || stopping.load()) turn.cancel();
      if (state == 0) {
        if (!begun && request_.stream)
          responder_->comment(
              fmt::format("{} of {} tokens of the prompt are read", turn.prompt_read(), turn.prompt_tokens()));
        continue;
      }
      if (!std::exchange(begun, true)) responder_->comment("still here");
      OrderedJson fresh = logprob_list(event);
      if (request_.stream) {
        stream_event(event, fresh);
      } else {
        for (OrderedJson& entry : fresh) logprobs.push_back(std::move(entry));
      }
      if (event.finish_reason == "error" && event.error) {
        if (request_.stream) return responder_->event(error_response(*event.error).body), responder_->end();
        return responder_->send(error_response(*event.error));
      }
    }
    if (request_.stream) {
      if (request_.include_usage)
        responder_->event(dump(envelope("chat.completion.chunk", OrderedJson::array(), &event.usage)));
      responder_->event("[DONE]");
      responder_->end();
    } else {
      whole(turn.message(), event, std::move(logprobs));
    }
  }

  OrderedJson envelope(const char* object, OrderedJson choices, const Usage* usage) const {
    OrderedJson json{
        {"id", id_}, {"object", object}, {"created", created_}, {"model", model_}, {"choices", std::move(choices)}};
    if (usage) json["usage"] = usage_json(*usage);
    return json;
  }

  void chunk(OrderedJson delta, OrderedJson finish_reason, OrderedJson logprobs = nullptr) {
    OrderedJson choice{{"index", 0},
                       {"delta", std::move(delta)},
                       {"logprobs", std::move(logprobs)},
                       {"finish_reason", std::move(finish_reason)}};
    responder_->event(dump(envelope("chat.completion.chunk", OrderedJson::array({std::move(choice)}), nullptr)));
  }

  void stream_event(const ChatEvent& event, OrderedJson& logprobs) {
    const MessageDelta& delta = event.delta;
    OrderedJson carried = logprobs.empty() ? OrderedJson(nullptr) : OrderedJson{{"content", logprobs}};
    if (!delta.reasoning_content.empty())
      chunk({{"reasoning_content", delta.reasoning_content}}, nullptr, std::exchange(carried, nullptr));
    if (!delta.content.empty()) chunk({{"content", delta.content}}, nullptr, std::exchange(carried, nullptr));
    for (const auto& call : delta.tool_calls) {
      OrderedJson function;
      OrderedJson entry{{"index", call.index}};
      if (!call.name.empty()) {
        entry["id"] = call_id(call.index);
        entry["type"] = "function";
        function["name"] = call.name;
      }
      function["arguments"] = call.arguments;
      entry["function"] = std::move(function);
      chunk({{"tool_calls", OrderedJson::array({std::move(entry)})}}, nullptr, std::exchange(carried, nullptr));
    }
    // Tokens whose text is still held back keep their log-probabilities with the event they came in.
    if (!carried.is_null() && event.finish_reason.empty())
      chunk({{"content", ""}}, nullptr, std::exchange(carried, nullptr));
    if (!event.finish_reason.empty() && event.finish_reason != "error")
      chunk(OrderedJson::object(), event.finish_reason, std::move(carried));
  }

  void whole(const ParsedMessage& parsed, const ChatEvent& last, OrderedJson logprobs) {
    OrderedJson message{{"role", "assistant"}, {"content", parsed.content}};
    if (parsed.reasoning_content) message["reasoning_content"] = *parsed.reasoning_content;
    if (!parsed.tool_calls.empty()) {
      OrderedJson calls = OrderedJson::array();
      for (const ToolCallText& call : parsed.tool_calls)
        calls.push_back({{"id", call_id(int(calls.size()))},
                         {"type", "function"},
                         {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
      message["tool_calls"] = std::move(calls);
      if (parsed.content.empty()) message["content"] = nullptr;
    }
    OrderedJson choice{
        {"index", 0},
        {"message", std::move(message)},
        {"logprobs", request_.logprobs < 0 ? OrderedJson(nullptr) : OrderedJson{{"content", std::move(logprobs)}}},
        {"finish_reason", last.finish_reason}};
    HttpResponse response;
    response.body = dump(envelope("chat.completion", OrderedJson::array({std::move(choice)}), &last.usage));
    responder_->send(std::move(response));
  }

  // [{"token", "logprob", "bytes", "top_logprobs"}] of an event's tokens.
  OrderedJson logprob_list(const ChatEvent& event) const {
    OrderedJson list = OrderedJson::array();
    for (std::size_t i = 0; i < event.logprobs.size(); ++i) {
      OrderedJson entry = logprob_entry(event.logprobs[i]);
      entry["top_logprobs"] = OrderedJson::array();
      if (i < event.top.size())
        for (const TokenLogprob& other : event.top[i]) entry["top_logprobs"].push_back(logprob_entry(other));
      list.push_back(std::move(entry));
    }
    return list;
  }
  OrderedJson logprob_entry(const TokenLogprob& token) const {
    const std::string_view piece = engine_.tokenizer()->piece(token.id);
    OrderedJson bytes = OrderedJson::array();
    for (unsigned char byte : piece) bytes.push_back(byte);
    return {{"token", piece}, {"logprob", token.logprob}, {"bytes", std::move(bytes)}};
  }

  std::string call_id(int index) const { return fmt::format("call_{}_{}", index, id_.substr(9)); }

  Engine& engine_;
  ChatRequest request_;
  std::string model_, id_;
  std::shared_ptr<Responder> responder_;
  int64_t created_;
};

class Api final : public ApiServer {
 public:
  Api(ApiOptions options, Engine& engine) : options_(std::move(options)), engine_(engine) {}
  ~Api() override { stop(); }

  Status listen() {
    HttpOptions http = options_.http;
    SONDE_TRY(http_,
              HttpServer::start(std::move(http), [this](HttpRequest request, std::shared_ptr<Responder> responder) {
                handle(std::move(request), std::move(responder));
              }));
    return {};
  }
  uint16_t port() const override { return http_->port(); }
  void stop() override {
    std::list<Worker> workers;
    {
      const std::lock_guard lock(mutex_);
      stopping_.store(true);  // no worker is added from here on
      workers.swap(workers_);
    }
    workers.clear();  // joins: each cancels its answer and says so to its client
    if (http_) http_->stop();
  }

 private:
  struct Worker {
    std::atomic<bool> done{false};
    std::jthread thread;
  };

  void handle(HttpRequest request, std::shared_ptr<Responder> responder) {
    struct Route {
      const char *method, *path;
      void (Api::*answer)(HttpRequest, std::shared_ptr<Responder>);
    };
    static constexpr Route kRoutes[] = {
        {"POST", "/v1/chat/completions", &Api::chat},
        {"POST", "/chat/completions", &Api::chat},
        {"GET", "/v1/models", &Api::models},
        {"GET", "/models", &Api::models},
        {"GET", "/health", &Api::health},
    };
    const char* other_method = nullptr;
    for (const Route& route : kRoutes) {
      if (request.path != route.path) continue;
      if (request.method == route.method) return (this->*route.answer)(std::move(request), std::move(responder));
      other_method = route.method;
    }
    if (!other_method)
      return responder->send(http_error(404, "there is no " + request.path + " here", "invalid_request_error"));
    HttpResponse response =
        http_error(405, fmt::format("{} wants {}", request.path, other_method), "invalid_request_error");
    response.headers.emplace_back("Allow", other_method);
    responder->send(std::move(response));
  }

  void chat(HttpRequest request, std::shared_ptr<Responder> responder) {
    auto parsed = parse_chat_request(request.body);
    if (!parsed.ok()) return responder->send(error_response(parsed.error()));
    const std::lock_guard lock(mutex_);
    workers_.remove_if([](const Worker& worker) { return worker.done.load(); });
    if (stopping_.load()) return responder->send(http_error(503, "the server is stopping", "server_error"));
    if (int(workers_.size()) >= options_.max_requests) {
      HttpResponse busy = http_error(
          429, fmt::format("{} requests are running or waiting, as many as this server takes", options_.max_requests),
          "rate_limit_error");
      busy.headers.emplace_back("Retry-After", "5");
      return responder->send(std::move(busy));
    }
    Worker& worker = workers_.emplace_back();
    std::string model = parsed->model.empty() ? options_.model_name : parsed->model;
    auto work =
        std::make_shared<Completion>(engine_, std::move(parsed).value(), std::move(model), std::move(responder));
    worker.thread = std::jthread([this, &worker, work] {
      work->run_guarded(stopping_, options_.max_tokens);
      worker.done.store(true);
    });
  }

  void models(HttpRequest, std::shared_ptr<Responder> responder) {
    HttpResponse response;
    response.body = dump({{"object", "list"},
                          {"data", OrderedJson::array({{{"id", options_.model_name},
                                                        {"object", "model"},
                                                        {"created", started_},
                                                        {"owned_by", "local"},
                                                        {"context_length", engine_.options().context}}})}});
    responder->send(std::move(response));
  }

  void health(HttpRequest, std::shared_ptr<Responder> responder) {
    const auto stats = engine_.stats();
    HttpResponse response;
    response.body = dump({{"status", "ok"}, {"running", stats.running}, {"waiting", stats.waiting}});
    responder->send(std::move(response));
  }

  ApiOptions options_;
  Engine& engine_;
  const int64_t started_ = unix_seconds();
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::list<Worker> workers_;
  std::unique_ptr<HttpServer> http_;
};

}  // namespace

Result<std::unique_ptr<ApiServer>> ApiServer::start(ApiOptions options, Engine& engine) {
  // Without a dialect or a tokenizer no chat can be had: say so before a port is opened.
  if (auto dialect = engine.require_dialect(); !dialect.ok()) return std::move(dialect).error();
  auto server = std::make_unique<Api>(std::move(options), engine);
  SONDE_CHECK(server->listen());
  return std::unique_ptr<ApiServer>(std::move(server));
}

}  // namespace sonde
