// The HTTP API of one loaded model: chat completions as OpenAI and DeepSeek shape them, the list of models, health.
#pragma once

#include <memory>
#include <string>

#include "server/http.h"

namespace sonde {

class Engine;

struct ApiOptions {
  HttpOptions http;
  int max_requests = 32;    // running and waiting together; one more gets a 429 with Retry-After
  std::string model_name;   // what /v1/models lists and answers echo when a request names none
  int64_t max_tokens = -1;  // of an answer when the request does not say; -1: what the context holds
};

class ApiServer {
 public:
  // `engine` must outlive the server.
  static Result<std::unique_ptr<ApiServer>> start(ApiOptions options, Engine& engine);
  virtual ~ApiServer() = default;  // stops
  virtual uint16_t port() const = 0;
  virtual void stop() = 0;  // cancels what runs and closes all connections
};

}  // namespace sonde
