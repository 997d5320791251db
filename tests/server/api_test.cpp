// The API as a client sees it, byte by byte, on the embedded model.
#include "server/api.h"

#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "server/client.h"
#include "sonde/engine.h"
#include "support/assets.h"

namespace sonde::test {
namespace {

using nlohmann::json;

class Api : public testing::Test {
 protected:
  void start(ApiOptions options = {}) {
    EngineOptions engine;
    engine.threads = 2;
    auto opened = Engine::open(source("models/mini"), engine);
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    engine_ = std::move(opened).value();
    options.http.port = 0;
    options.model_name = "mini";
    auto server = ApiServer::start(options, *engine_);
    ASSERT_TRUE(server.ok()) << server.error().message();
    server_ = std::move(server).value();
  }
  Answer post(const json& body, const std::string& path = "/v1/chat/completions", Headers headers = {}) {
    return http(server_->port(), "POST", path, body.dump(), std::move(headers));
  }
  static json question(const std::string& text) {
    return {{"messages", json::array({{{"role", "user"}, {"content", text}}})}, {"temperature", 0}};
  }
  static std::vector<json> events(const std::string& body) {
    std::vector<json> list;
    for (std::size_t at = 0; (at = body.find("data: ", at)) != std::string::npos;) {
      const std::size_t end = body.find("\n\n", at);
      const std::string data = body.substr(at + 6, end - at - 6);
      list.push_back(data == "[DONE]" ? json("[DONE]") : json::parse(data));
      at = end;
    }
    return list;
  }
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<ApiServer> server_;
};

TEST_F(Api, WholeAnswerWithReasoningAndUsage) {
  start();
  const Answer answer = post(question("37 * 48"));
  ASSERT_EQ(answer.status, 200) << answer.body;
  const json body = json::parse(answer.body);
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["model"], "mini");
  const json& choice = body["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_EQ(choice["message"]["role"], "assistant");
  EXPECT_NE(choice["message"]["content"].get<std::string>().find("1776"), std::string::npos);
  EXPECT_NE(choice["message"]["reasoning_content"].get<std::string>().find("1776"), std::string::npos);
  const json& usage = body["usage"];
  EXPECT_EQ(usage["total_tokens"], usage["prompt_tokens"].get<int>() + usage["completion_tokens"].get<int>());
  EXPECT_GT(usage["completion_tokens_details"]["reasoning_tokens"], 0);
  EXPECT_EQ(usage["prompt_tokens"],
            usage["prompt_cache_hit_tokens"].get<int>() + usage["prompt_cache_miss_tokens"].get<int>());
}

TEST_F(Api, StreamedDeltasAddUpToTheWholeAnswer) {
  start();
  json request = question("1200 - 345 = ?");
  const json whole = json::parse(post(request).body)["choices"][0];
  request["stream"] = true;
  request["stream_options"] = {{"include_usage", true}};
  const Answer answer = post(request, "/chat/completions");
  ASSERT_EQ(answer.status, 200);
  EXPECT_NE(answer.head.find("text/event-stream"), std::string::npos);
  const auto list = events(answer.body);
  ASSERT_GE(list.size(), 4u);
  EXPECT_EQ(list.back(), "[DONE]");
  EXPECT_EQ(list[0]["choices"][0]["delta"]["role"], "assistant");
  std::string reasoning, content, finish;
  for (std::size_t i = 0; i + 2 < list.size(); ++i) {
    const json& choice = list[i]["choices"][0];
    reasoning += choice["delta"].value("reasoning_content", "");
    content += choice["delta"].value("content", "");
    if (!choice["finish_reason"].is_null()) finish = choice["finish_reason"];
  }
  EXPECT_EQ(reasoning, whole["message"]["reasoning_content"].get<std::string>());
  EXPECT_EQ(content, whole["message"]["content"].get<std::string>());
  EXPECT_EQ(finish, "stop");
  const json& last = list[list.size() - 2];
  EXPECT_TRUE(last["choices"].empty());
  EXPECT_GT(last["usage"]["completion_tokens"], 0);
}

TEST_F(Api, PartsNullsAndUnknownFieldsAreTaken) {
  start();
  json request = question("");
  request["messages"][0]["content"] =
      json::array({{{"type", "text"}, {"text", "37 *"}}, {{"type", "text"}, {"text", " 48"}}});
  for (const char* field : {"stop", "top_p", "max_tokens", "stream", "tools", "logit_bias", "seed", "logprobs"})
    request[field] = nullptr;
  request["parallel_tool_calls"] = true;
  request["user"] = "somebody";
  const Answer answer = post(request);
  ASSERT_EQ(answer.status, 200) << answer.body;
  EXPECT_NE(answer.body.find("1776"), std::string::npos);
}

TEST_F(Api, LogprobsStopAndMaxTokens) {
  start();
  json request = question("37 * 48");
  request["logprobs"] = true;
  request["top_logprobs"] = 3;
  request["max_tokens"] = 5;
  json choice = json::parse(post(request).body)["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "length");
  ASSERT_EQ(choice["logprobs"]["content"].size(), 5u);
  for (const json& token : choice["logprobs"]["content"]) {
    EXPECT_LE(token["logprob"], 0);
    ASSERT_EQ(token["top_logprobs"].size(), 3u);
    EXPECT_FLOAT_EQ(token["top_logprobs"][0]["logprob"], token["logprob"]);  // greedy: the chosen one is the best
  }
  request = question("37 * 48");
  request["stop"] = "mod 9";
  choice = json::parse(post(request).body)["choices"][0];
  EXPECT_EQ(choice["message"].dump().find("mod 9"), std::string::npos);
}

TEST_F(Api, MistakesAreNamed) {
  start();
  const auto param = [&](json request, const std::string& want) {
    const Answer answer = post(request);
    EXPECT_EQ(answer.status, 400) << answer.body;
    EXPECT_EQ(json::parse(answer.body)["error"]["param"], want) << answer.body;
  };
  json request = question("x");
  request["temperature"] = 9;
  param(request, "temperature");
  request = question("x"), request["top_logprobs"] = 21, request["logprobs"] = true;
  param(request, "top_logprobs");
  request = question("x"), request["n"] = 2;
  param(request, "n");
  param(json{{"model", "mini"}}, "messages");
  request = question("x"), request["messages"][0]["content"] = json::array({{{"type", "image_url"}}});
  param(request, "messages[0].content");
  EXPECT_EQ(http(server_->port(), "POST", "/v1/chat/completions", "{\"messages\": [").status, 400);
  EXPECT_EQ(http(server_->port(), "POST", "/v1/chat/completions", std::string(100000, '[')).status, 400);
  EXPECT_EQ(http(server_->port(), "GET", "/nowhere").status, 404);
  EXPECT_EQ(http(server_->port(), "GET", "/v1/chat/completions").status, 405);
  // A prompt beyond the context is refused with both numbers, never cut.
  std::string long_text;
  for (int i = 0; i < 5000; ++i) long_text += "12 + 34; ";
  const Answer overflow = post(question(long_text));
  EXPECT_EQ(overflow.status, 400);
  EXPECT_NE(overflow.body.find("2048"), std::string::npos) << overflow.body;
}

TEST_F(Api, KeysHostsAndOrigins) {
  ApiOptions options;
  options.http.api_key = "secret";
  start(options);
  const json request = question("1 + 1");
  EXPECT_EQ(post(request).status, 401);
  EXPECT_EQ(post(request, "/v1/chat/completions", {{"Authorization", "Bearer secre"}}).status, 401);
  EXPECT_EQ(post(request, "/v1/chat/completions", {{"Authorization", "Bearer secret"}}).status, 200);
  EXPECT_EQ(http(server_->port(), "GET", "/health").status, 200);
  EXPECT_EQ(http(server_->port(), "GET", "/v1/models", "", {{"Authorization", "Bearer secret"}}).status, 200);
  // A name that was made to point here, and a page of another site.
  EXPECT_EQ(http(server_->port(), "GET", "/health", "", {{"Host", "evil.example.org"}}).status, 403);
  EXPECT_EQ(http(server_->port(), "GET", "/health", "", {{"Origin", "https://evil.example.org"}}).status, 403);
  EXPECT_EQ(http(server_->port(), "GET", "/health", "", {{"Origin", "http://localhost:5173"}}).status, 200);

  ApiOptions open;
  open.http.host = "0.0.0.0";
  EXPECT_FALSE(ApiServer::start(open, *engine_).ok()) << "beyond loopback without a key";
}

TEST_F(Api, HeadOptionsAndOldClients) {
  ApiOptions options;
  options.http.api_key = "secret";
  options.http.origins = {"https://chat.example.org"};
  start(options);
  const Answer head = http(server_->port(), "HEAD", "/health");
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.body, "");
  // A browser asks without the key whether it may send it.
  const Answer may =
      http(server_->port(), "OPTIONS", "/v1/chat/completions", "",
           {{"Origin", "https://chat.example.org"}, {"Access-Control-Request-Headers", "authorization"}});
  EXPECT_EQ(may.status, 204);
  EXPECT_NE(may.head.find("Access-Control-Allow-Origin: https://chat.example.org"), std::string::npos) << may.head;
  EXPECT_NE(may.head.find("Access-Control-Allow-Headers: authorization"), std::string::npos) << may.head;
  EXPECT_EQ(http(server_->port(), "OPTIONS", "/health", "", {{"Origin", "https://evil.example.org"}}).status, 403);
  // HTTP/1.0 knows neither Host nor chunks: the stream ends with the connection.
  json request = question("1 + 1");
  request["stream"] = true;
  const std::string body = request.dump();
  Connection old(server_->port());
  old.send("POST /v1/chat/completions HTTP/1.0\r\nAuthorization: Bearer secret\r\nContent-Length: " +
           std::to_string(body.size()) + "\r\n\r\n" + body);
  const std::string all = old.read_until("never");
  EXPECT_EQ(all.find("chunked"), std::string::npos);
  EXPECT_TRUE(all.ends_with("data: [DONE]\n\n")) << all;
  Connection waiting(server_->port());
  waiting.send(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\r\n"
      "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_NE(waiting.read_until("\r\n\r\n").find("100 Continue"), std::string::npos);
  waiting.send("{}");
  EXPECT_NE(waiting.read_until("messages").find("HTTP/1.1 400"), std::string::npos);
}

TEST_F(Api, ThoughtsCanBeTurnedOff) {
  start();
  json request = question("12 + 30");
  request["thinking"] = {{"type", "disabled"}};
  const json message = json::parse(post(request).body)["choices"][0]["message"];
  EXPECT_EQ(message.value("reasoning_content", "").find_first_not_of('\n'), std::string::npos) << message;
  EXPECT_NE(message["content"].get<std::string>().find("12+30"), std::string::npos) << message;
}

// Ordered objects look every new key up among those before it.
TEST_F(Api, ObjectsOfVeryManyKeysAreRefusedAtOnce) {
  start();
  json request = question("1 + 1");
  for (int i = 0; i < 600; ++i) request["x" + std::to_string(i)] = i;
  const Answer many = post(request);
  EXPECT_EQ(many.status, 400);
  EXPECT_NE(many.body.find("512 keys"), std::string::npos) << many.body;
  request = question("1 + 1");
  json object;
  for (int i = 0; i < 500; ++i) object[std::to_string(i)] = 0;
  for (int i = 0; i < 1000; ++i) request["list"].push_back(object);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(post(request).status, 400);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  EXPECT_EQ(post(question("1 + 1")).status, 200);
}

TEST_F(Api, BoundsOnBodiesAndGarbage) {
  ApiOptions options;
  options.http.max_body_bytes = 10000;
  start(options);
  EXPECT_EQ(http(server_->port(), "POST", "/v1/chat/completions", std::string(20000, ' ')).status, 413);
  EXPECT_EQ(http(server_->port(), "GET", "/health", "", {{"X-Long", std::string(50000, 'x')}}).status, 431);
  Connection garbage(server_->port());
  garbage.send("\x16\x03\x01 this is no HTTP\r\n\r\n");
  EXPECT_NE(garbage.read_until("\r\n\r\n").find("400"), std::string::npos);
  EXPECT_EQ(http(server_->port(), "GET", "/health").status, 200);
}

// An answer that cannot end by itself: the end token is forbidden. It runs until the context is full.
json endless() {
  json request{
      {"messages", json::array({{{"role", "user"}, {"content", "37 * 48"}}})}, {"temperature", 1.5}, {"stream", true}};
  request["logit_bias"] = {{"1", -100}};
  request["seed"] = 7;
  return request;
}

TEST_F(Api, AFullQueueSaysSoAndALeavingClientFreesIt) {
  ApiOptions options;
  options.max_requests = 1;
  start(options);
  {
    Connection first(server_->port());
    first.send(request_text("POST", "/v1/chat/completions", endless().dump(), {}));
    ASSERT_NE(first.read_until("data: ").find("data: "), std::string::npos);
    const Answer second = post(question("1 + 1"));
    EXPECT_EQ(second.status, 429) << second.body;
    EXPECT_NE(second.head.find("Retry-After"), std::string::npos);
  }
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (engine_->stats().running > 0 && std::chrono::steady_clock::now() < patience)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(engine_->stats().running, 0);
  int status = 429;
  while (status == 429 && std::chrono::steady_clock::now() < patience) status = post(question("1 + 1")).status;
  EXPECT_EQ(status, 200);
}

TEST_F(Api, StoppingWhileAnAnswerRunsIsClean) {
  start();
  Connection first(server_->port());
  first.send(request_text("POST", "/v1/chat/completions", endless().dump(), {}));
  first.read_until("data: ");
  server_->stop();
  EXPECT_NE(first.read_until("[DONE]").find("\"finish_reason\":\"cancelled\""), std::string::npos);
  server_.reset();
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (engine_->stats().running > 0 && std::chrono::steady_clock::now() < patience)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(engine_->stats().running, 0);
}

TEST(Http, ASilentStreamSaysWhatItIsDoing) {
  std::shared_ptr<Responder> stream;
  HttpOptions options;
  options.port = 0, options.keep_alive = std::chrono::milliseconds(10);
  auto server = HttpServer::start(options, [&](HttpRequest, std::shared_ptr<Responder> responder) {
    stream = std::move(responder);
    stream->event("begun");
    stream->comment("half of it\nis read");
  });
  ASSERT_TRUE(server.ok()) << server.error().message();
  Connection client((*server)->port());
  client.send(request_text("POST", "/", "", {}));
  const std::string said = client.read_until(": half of it is read\n\n");
  EXPECT_NE(said.find("data: begun\n\n"), std::string::npos);
  stream->end();
  stream.reset();  // before the server that it belongs to
  EXPECT_TRUE(client.read_until("\r\n0\r\n\r\n").ends_with("\r\n0\r\n\r\n"));
}

}  // namespace
}  // namespace sonde::test
