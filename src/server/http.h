// HTTP/1.1 and server-sent events, without a word of what is served. Boost.Beast stays inside http.cpp.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sonde/result.h"

namespace sonde {

struct HttpOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8080;              // 0: any free one
  std::string api_key;               // empty: none asked for; only allowed on loopback
  std::vector<std::string> origins;  // allowed Origin values beside the server's own; "*" is not among the possible
  int64_t max_header_bytes = 16 << 10;
  int64_t max_body_bytes = 8 << 20;
  int max_connections = 256;
  std::chrono::seconds idle_timeout{60};  // to receive a request, and for a client to take what is sent
  std::chrono::milliseconds keep_alive{15000};  // a comment line when an answer is silent, so that proxies wait on
};

struct HttpRequest {
  std::string method, path;  // path without the query
  std::string body;
};

struct HttpResponse {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;
};

// Answers one request: send() once, or event() any number of times and end(). From any thread; after the client has
// left everything is ignored.
class Responder {
 public:
  virtual ~Responder() = default;
  virtual void send(HttpResponse response) = 0;
  virtual void event(std::string data) = 0;  // "data: DATA\n\n"; the first one sends the headers of the stream
  virtual void comment(std::string text) = 0;  // what a silent stream says that it is doing; line ends become spaces
  virtual void end() = 0;                    // closes the stream of events
  virtual bool client_left() const = 0;
};

// Called on a network thread: it must hand the work on, not do it.
using HttpHandler = std::function<void(HttpRequest request, std::shared_ptr<Responder> responder)>;

class HttpServer {
 public:
  // Binds and listens before it returns. Refused: a host beyond loopback without an API key; a port that is taken.
  static Result<std::unique_ptr<HttpServer>> start(HttpOptions options, HttpHandler handler);
  virtual ~HttpServer() = default;  // stops
  virtual uint16_t port() const = 0;
  virtual void stop() = 0;  // closes all connections; returns when the network threads have ended
};

// The shape of errors of the OpenAI and DeepSeek APIs.
HttpResponse http_error(int status, const std::string& message, const std::string& type, const std::string& param = "");

}  // namespace sonde
