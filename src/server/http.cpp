#include "server/http.h"

#include <fmt/format.h>
#include <openssl/crypto.h>

#include <boost/asio.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <deque>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

namespace sonde {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;

constexpr auto kNoThrow = asio::as_tuple(asio::use_awaitable);
constexpr auto kKeepAlive = std::chrono::seconds(15);  // a comment line when an answer is silent, so that proxies wait on

// What the handler says, carried to the connection's coroutine.
class Channel final : public Responder, public std::enable_shared_from_this<Channel> {
 public:
  explicit Channel(asio::any_io_executor executor) : executor_(executor), wake_(executor) {
    wake_.expires_at(asio::steady_timer::time_point::max());
  }

  void send(HttpResponse response) override {
    push([&] { if (!streaming_ && !response_) response_ = std::move(response), ended_ = true; });
  }
  void event(std::string data) override {
    push([&] { if (!ended_) streaming_ = true, events_.push_back("data: " + std::move(data) + "\n\n"); });
  }
  void end() override {
    push([&] { ended_ = true; });
  }
  bool client_left() const override { return left_.load(); }

  void leave() { left_.store(true); }

  struct Taken {
    std::optional<HttpResponse> response;
    std::string events;
    bool streaming = false, ended = false;
    bool any() const { return response || !events.empty() || ended; }
  };
  Taken take() {
    const std::lock_guard lock(mutex_);
    Taken taken{std::exchange(response_, std::nullopt), "", streaming_, ended_};
    for (const std::string& e : events_) taken.events += e;
    events_.clear();
    return taken;
  }
  // Waits until something may have been said, or `limit` has passed. Runs on the connection's executor.
  asio::awaitable<void> wait(std::chrono::steady_clock::duration limit) {
    {
      const std::lock_guard lock(mutex_);
      if (response_ || !events_.empty() || ended_) co_return;
      wake_.expires_after(limit);
    }
    co_await wake_.async_wait(kNoThrow);
  }

 private:
  template <class F>
  void push(F&& change) {
    {
      const std::lock_guard lock(mutex_);
      change();
    }
    asio::post(executor_, [self = shared_from_this()] {
      const std::lock_guard lock(self->mutex_);
      self->wake_.cancel();
    });
  }

  asio::any_io_executor executor_;
  mutable std::mutex mutex_;
  asio::steady_timer wake_;
  std::optional<HttpResponse> response_;
  std::deque<std::string> events_;
  bool streaming_ = false, ended_ = false;
  std::atomic<bool> left_{false};
};

bool same_secret(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;  // time does not depend on the contents
}

// The name in a Host header or an Origin, without port: "localhost", "127.0.0.1", "[::1]".
std::string_view host_name(std::string_view text) {
  if (const auto scheme = text.find("://"); scheme != text.npos) text.remove_prefix(scheme + 3);
  if (text.starts_with('[')) return text.substr(0, text.find(']') + 1);
  return text.substr(0, text.find(':'));
}
bool is_loopback_name(std::string_view name) { return name == "localhost" || name == "127.0.0.1" || name == "[::1]" || name == "::1"; }

class Server final : public HttpServer {
 public:
  Server(HttpOptions options, HttpHandler handler) : options_(std::move(options)), handler_(std::move(handler)), acceptor_(io_) {}
  ~Server() override { stop(); }

  Status listen() {
    error_code failed;
    tcp::endpoint endpoint;
    const auto address = asio::ip::make_address(options_.host == "localhost" ? "127.0.0.1" : options_.host, failed);
    if (failed)
      return Error{Code::kInvalid, "not an address to listen on", "--host", "an IPv4 or IPv6 address such as 127.0.0.1", options_.host, ""};
    loopback_ = address.is_loopback();
    if (!loopback_ && options_.api_key.empty())
      return Error{Code::kInvalid, "a host beyond loopback needs an API key", "--host " + options_.host, "--api-key or SONDE_API_KEY", "none",
                   "anyone who can reach the port could use the model"};
    endpoint = {address, options_.port};
    acceptor_.open(endpoint.protocol(), failed);
    if (!failed) acceptor_.set_option(asio::socket_base::reuse_address(true), failed);
    if (!failed) acceptor_.bind(endpoint, failed);
    if (!failed) acceptor_.listen(asio::socket_base::max_listen_connections, failed);
    if (failed)
      return Error{Code::kIo, "cannot listen", fmt::format("{}:{}", options_.host, options_.port), "", failed.message(),
                   "another program may use the port: choose one with --port"};
    port_ = acceptor_.local_endpoint().port();
    asio::co_spawn(io_, accept(), asio::detached);
    thread_ = std::thread([this] { io_.run(); });
    return {};
  }
  uint16_t port() const override { return port_; }
  void stop() override {
    if (!thread_.joinable()) return;
    asio::post(io_, [this] {
      error_code ignored;
      acceptor_.close(ignored);
      for (Channel* channel : active_) channel->leave();
      io_.stop();
    });
    thread_.join();
  }

 private:
  asio::awaitable<void> accept() {
    for (;;) {
      auto [failed, socket] = co_await acceptor_.async_accept(kNoThrow);
      if (failed == asio::error::operation_aborted) co_return;
      if (failed) {  // out of descriptors: let some go first
        asio::steady_timer pause(io_, std::chrono::milliseconds(50));
        co_await pause.async_wait(kNoThrow);
        continue;
      }
      if (connections_ >= options_.max_connections) continue;  // closes it
      asio::co_spawn(io_, serve(std::move(socket)), asio::detached);
    }
  }

  asio::awaitable<void> serve(tcp::socket socket) {
    ++connections_;
    beast::tcp_stream stream(std::move(socket));
    beast::flat_buffer buffer(std::size_t(options_.max_header_bytes + options_.max_body_bytes));
    for (bool keep = true; keep;) {
      http::request_parser<http::string_body> parser;
      parser.header_limit(std::uint32_t(options_.max_header_bytes));
      parser.body_limit(std::uint64_t(options_.max_body_bytes));
      stream.expires_after(options_.idle_timeout);
      const auto [failed, bytes] = co_await http::async_read(stream, buffer, parser, kNoThrow);
      if (failed) {
        if (failed == http::error::body_limit || failed == http::error::buffer_overflow)
          co_await write(stream, http_error(413, fmt::format("the body is larger than {} bytes", options_.max_body_bytes), "invalid_request_error"), false);
        else if (failed == http::error::header_limit)
          co_await write(stream, http_error(431, fmt::format("the headers are larger than {} bytes", options_.max_header_bytes), "invalid_request_error"), false);
        else if (failed.category() == http::make_error_code(http::error::bad_method).category() && failed != http::error::end_of_stream)
          co_await write(stream, http_error(400, "not an HTTP request: " + failed.message(), "invalid_request_error"), false);
        break;
      }
      keep = co_await answer(stream, parser.release());
    }
    error_code ignored;
    stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
    --connections_;
  }

  // Host, Origin and key; an answer where one is wrong.
  std::optional<HttpResponse> refuse(const http::request<http::string_body>& request) const {
    const std::string_view host(request[http::field::host].data(), request[http::field::host].size());
    const std::string_view origin(request[http::field::origin].data(), request[http::field::origin].size());
    // A web page of another origin must not drive this server, nor a foreign name that was made to point here (DNS rebinding).
    if (loopback_ && !is_loopback_name(host_name(host))) return http_error(403, "this server answers to localhost only", "permission_error");
    if (!origin.empty() && !(loopback_ && is_loopback_name(host_name(origin))) && host_name(origin) != host_name(host) &&
        std::find(options_.origins.begin(), options_.origins.end(), origin) == options_.origins.end())
      return http_error(403, "this origin is not allowed", "permission_error");
    if (!options_.api_key.empty() && request.target() != "/health") {
      constexpr std::string_view kBearer = "Bearer ";
      const std::string_view header(request[http::field::authorization].data(), request[http::field::authorization].size());
      if (!header.starts_with(kBearer) || !same_secret(header.substr(kBearer.size()), options_.api_key)) {
        auto response = http_error(401, "wrong or missing API key: send it as 'Authorization: Bearer KEY'", "authentication_error");
        response.headers.emplace_back("WWW-Authenticate", "Bearer");
        return response;
      }
    }
    return std::nullopt;
  }

  asio::awaitable<bool> answer(beast::tcp_stream& stream, http::request<http::string_body> request) {
    const bool keep = request.keep_alive();
    if (auto refused = refuse(request)) co_return co_await write(stream, *refused, keep);
    HttpRequest plain;
    plain.method = std::string(request.method_string());
    plain.path = std::string(request.target().substr(0, request.target().find('?')));
    plain.body = std::move(request.body());
    auto channel = std::make_shared<Channel>(stream.get_executor());
    active_.push_back(channel.get());
    stream.expires_never();
    auto watching = std::make_shared<bool>(true);
    asio::co_spawn(io_, watch(stream.socket(), channel, watching), asio::detached);
    handler_(std::move(plain), channel);
    const bool ok = co_await relay(stream, *channel, keep);
    channel->leave();
    *watching = false;
    error_code ignored;
    stream.socket().cancel(ignored);  // ends watch()
    std::erase(active_, channel.get());
    co_return ok && keep;
  }

  // Notices that the client hangs up while nothing is being written.
  asio::awaitable<void> watch(tcp::socket& socket, std::shared_ptr<Channel> channel, std::shared_ptr<bool> watching) {
    const auto [failed] = co_await socket.async_wait(tcp::socket::wait_read, kNoThrow);
    if (!*watching || failed) co_return;
    error_code error;
    char byte;
    const std::size_t n = socket.receive(asio::buffer(&byte, 1), tcp::socket::message_peek, error);
    if (error || n == 0) channel->leave(), channel->end();
  }

  asio::awaitable<bool> relay(beast::tcp_stream& stream, Channel& channel, bool keep) {
    bool started = false;
    for (;;) {
      co_await channel.wait(kKeepAlive);
      auto said = channel.take();
      if (channel.client_left()) co_return false;
      if (said.response) co_return co_await write(stream, *said.response, keep);
      if (said.streaming && !started) {
        const std::string head = fmt::format(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
            "Transfer-Encoding: chunked\r\nConnection: {}\r\n\r\n", keep ? "keep-alive" : "close");
        if (!co_await send(stream, head)) co_return false;
        started = true;
      }
      if (started && !said.any()) said.events = ": still here\n\n";
      if (!said.events.empty() && !co_await send(stream, fmt::format("{:x}\r\n{}\r\n", said.events.size(), said.events))) co_return false;
      if (said.ended) co_return started && co_await send(stream, "0\r\n\r\n");
    }
  }

  asio::awaitable<bool> send(beast::tcp_stream& stream, std::string bytes) {
    stream.expires_after(options_.idle_timeout);
    const auto [failed, n] = co_await asio::async_write(stream, asio::buffer(bytes), kNoThrow);
    stream.expires_never();
    co_return !failed;
  }

  asio::awaitable<bool> write(beast::tcp_stream& stream, const HttpResponse& response, bool keep) {
    http::response<http::string_body> out(http::status(response.status), 11);
    out.set(http::field::content_type, response.content_type);
    for (const auto& [name, value] : response.headers) out.set(name, value);
    out.keep_alive(keep);
    out.body() = response.body;
    out.prepare_payload();
    stream.expires_after(options_.idle_timeout);
    const auto [failed, n] = co_await http::async_write(stream, out, kNoThrow);
    co_return !failed && keep;
  }

  HttpOptions options_;
  HttpHandler handler_;
  asio::io_context io_{1};
  tcp::acceptor acceptor_;
  std::thread thread_;
  std::vector<Channel*> active_;  // touched on the network thread alone
  int connections_ = 0;
  uint16_t port_ = 0;
  bool loopback_ = true;
};

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::start(HttpOptions options, HttpHandler handler) {
  auto server = std::make_unique<Server>(std::move(options), std::move(handler));
  SONDE_CHECK(server->listen());
  return std::unique_ptr<HttpServer>(std::move(server));
}

HttpResponse http_error(int status, const std::string& message, const std::string& type, const std::string& param) {
  nlohmann::json error{{"message", message}, {"type", type}, {"param", nullptr}, {"code", nullptr}};
  if (!param.empty()) error["param"] = param;
  HttpResponse response;
  response.status = status;
  response.body = nlohmann::json{{"error", error}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return response;
}

}  // namespace sonde
