// sonde serve: the model behind an HTTP API.
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/command.h"
#include "cli/common_flags.h"
#include "cli/interrupt.h"
#include "server/api.h"

namespace sonde {
namespace {

struct Options {
  ModelFlags model;
  RunFlags run;
  std::string host = "127.0.0.1", api_key, name;
  std::vector<std::string> origins;
  int port = 8080, queue = 32, batch = 8;
  bool json = false;
};

Result<int> serve(const Options& options) {
  SONDE_CHECK(options.run.check());
  if (options.port < 0 || options.port > 65535) return usage_mistake("--port is a number from 0 to 65535");
  if (options.queue < 1) return usage_mistake("--queue is at least 1");
  if (options.batch < 1 || options.batch > 64) return usage_mistake("--batch is a number from 1 to 64");
  SONDE_TRY(const std::string path, options.model.path_or_embedded());

  ApiOptions api;
  api.http.host = options.host;
  api.http.port = static_cast<uint16_t>(options.port);
  api.http.origins = options.origins;
  api.http.api_key = options.api_key;
  if (const char* key = std::getenv("SONDE_API_KEY"); api.http.api_key.empty() && key) api.http.api_key = key;
  api.max_requests = options.queue;
  const std::filesystem::path file = std::filesystem::path(path).lexically_normal();
  api.model_name =
      !options.name.empty() ? options.name : (file.has_filename() ? file : file.parent_path()).stem().string();

  EngineOptions engine_options = options.run.engine_options();
  engine_options.max_batch = options.batch;
  SONDE_TRY(const std::unique_ptr<Engine> engine, open_engine(path, std::move(engine_options)));
  const Interrupt interrupt;
  SONDE_TRY(const std::unique_ptr<ApiServer> server, ApiServer::start(api, *engine));
  notice("serving " + api.model_name + " at http://" + options.host + ":" + std::to_string(server->port()) +
         "/v1 (Ctrl-C stops it); context " + std::to_string(engine->options().context) + " tokens" +
         (api.http.api_key.empty() ? "" : ", API key required"));
  if (options.json) {  // for programs that started this: it listens now, and where
    print_line({{"host", options.host},
                {"port", server->port()},
                {"model", api.model_name},
                {"context", engine->options().context}});
    flush();
  }
  while (!Interrupt::requested()) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  notice("stopping");
  server->stop();
  return kOk;
}

Run setup(Args& args) {
  auto options = std::make_shared<Options>();
  options->model.declare(args);
  args.option("--host", options->host,
              "address to listen on; beyond loopback only with an API key (default 127.0.0.1)");
  args.option("--port", options->port, "port; 0 takes a free one (default 8080)");
  args.option("--api-key", options->api_key, "key that clients must send; also SONDE_API_KEY");
  args.option("--name", options->name, "the model's name in answers (default: the file's)");
  args.option("--queue", options->queue, "requests running and waiting together; one more gets a 429 (default 32)");
  args.option("--batch", options->batch, "requests that run at once (default 8)");
  args.repeated("--origin", options->origins, "a web origin that may use the server, such as https://chat.example.org");
  declare_json(args, options->json);
  options->run.declare(args);
  return [options] { return finish(serve(*options)); };
}

}  // namespace

extern const Command cmd_serve = {
    "serve", "[MODEL] [--host 127.0.0.1] [--port 8080] [--api-key KEY] [--json]", "the model behind an HTTP API",
    "  sonde serve\n"
    "  sonde serve DeepSeek-R1-Distill-Qwen-1.5B-Q4_K_M.gguf --port 9000\n"
    "  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\\n"
    "    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"37 * 48\"}], \"stream\": true}'\n",
    setup};

}  // namespace sonde
