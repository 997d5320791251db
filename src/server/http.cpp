#include "server/http.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <poll.h>

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
constexpr auto kDrain = std::chrono::seconds(2);      // what a refused client still sends is read for so long
constexpr auto kLastWords = std::chrono::seconds(2);  // for answers on their way when the server stops

// What the handler says, carried to the connection's coroutine.
class Channel final : public Responder, public std::enable_shared_from_this<Channel> {
 public:
  explicit Channel(asio::any_io_executor executor) : executor_(executor), wake_(executor) {
    wake_.expires_at(asio::steady_timer::time_point::max());
  }

  void send(HttpResponse response) override {
    push([&] {
      if (!streaming_ && !response_) response_ = std::move(response), ended_ = true;
    });
  }
  void event(std::string data) override {
    push([&] {
      if (!ended_) streaming_ = true, events_.push_back("data: " + std::move(data) + "\n\n");
    });
  }
  void comment(std::string text) override {
    std::replace_if(text.begin(), text.end(), [](char c) { return c == '\r' || c == '\n'; }, ' ');
    const std::lock_guard lock(mutex_);
    comment_ = std::move(text);
  }
  void end() override {
    push([&] { ended_ = true; });
  }
  bool client_left() const override { return left_.load(); }

  void leave() { left_.store(true); }

  struct Taken {
    std::optional<HttpResponse> response;
    std::string events, comment;
    bool streaming = false, ended = false;
    bool any() const { return response || !events.empty() || ended; }
  };
  Taken take() {
    const std::lock_guard lock(mutex_);
    Taken taken{std::exchange(response_, std::nullopt), "", comment_, streaming_, ended_};
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
  std::string comment_ = "still here";
  bool streaming_ = false, ended_ = false;
  std::atomic<bool> left_{false};
};

bool same_secret(std::string_view a, std::string_view b) {
  return a.size() == b.size() &&
         CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;  // time does not depend on the contents
}

// The name in a Host header or an Origin, without port: "localhost", "127.0.0.1", "[::1]".
std::string_view host_name(std::string_view text) {
  if (const auto scheme = text.find("://"); scheme != text.npos) text.remove_prefix(scheme + 3);
  if (text.starts_with('[')) return text.substr(0, text.find(']') + 1);
  return text.substr(0, text.find(':'));
}
bool is_loopback_name(std::string_view name) {
  if (beast::iequals(name, "localhost")) return true;
  if (name.starts_with('[') && name.ends_with(']')) name = name.substr(1, name.size() - 2);
  error_code failed;
  const auto address = asio::ip::make_address(std::string(name), failed);
  return !failed && address.is_loopback();
}
std::string_view field(const http::request<http::string_body>& request, http::field name) {
  return {request[name].data(), request[name].size()};
}

class Server final : public HttpServer {
 public:
  Server(HttpOptions options, HttpHandler handler)
      : options_(std::move(options)), handler_(std::move(handler)), acceptor_(io_) {}
  ~Server() override { stop(); }

  Status listen() {
    error_code failed;
    tcp::endpoint endpoint;
    const auto address = asio::ip::make_address(options_.host == "localhost" ? "127.0.0.1" : options_.host, failed);
    if (failed)
      return Error{Code::kInvalid, "not an address to listen on",
                   "--host",       "an IPv4 or IPv6 address such as 127.0.0.1",
                   options_.host,  ""};
    loopback_ = address.is_loopback();
    if (!loopback_ && options_.api_key.empty())
      return Error{Code::kInvalid,
                   "a host beyond loopback needs an API key",
                   "--host " + options_.host,
                   "--api-key or SONDE_API_KEY",
                   "none",
                   "anyone who can reach the port could use the model"};
    endpoint = {address, options_.port};
    acceptor_.open(endpoint.protocol(), failed);
    if (!failed) acceptor_.set_option(asio::socket_base::reuse_address(true), failed);
    if (!failed) acceptor_.bind(endpoint, failed);
    if (!failed) acceptor_.listen(asio::socket_base::max_listen_connections, failed);
    if (failed)
      return Error{Code::kIo, "cannot listen",  fmt::format("{}:{}", options_.host, options_.port),
                   "",        failed.message(), "another program may use the port: choose one with --port"};
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
      stopping_ = true;
      asio::co_spawn(io_, last_words(), asio::detached);
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

  // Answers that are being written may end; then everything is closed.
  asio::awaitable<void> last_words() {
    const auto limit = std::chrono::steady_clock::now() + kLastWords;
    while (!active_.empty() && std::chrono::steady_clock::now() < limit) {
      asio::steady_timer pause(io_, std::chrono::milliseconds(10));
      co_await pause.async_wait(kNoThrow);
    }
    for (Channel* channel : active_) channel->leave();
    io_.stop();
  }

  asio::awaitable<void> serve(tcp::socket socket) {
    ++connections_;
    error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    beast::tcp_stream stream(std::move(socket));
    beast::flat_buffer buffer(std::size_t(options_.max_header_bytes + options_.max_body_bytes));
    bool unread = false;
    for (bool keep = true; keep && !stopping_;) {
      http::request_parser<http::string_body> parser;
      parser.header_limit(std::uint32_t(options_.max_header_bytes));
      parser.body_limit(std::uint64_t(options_.max_body_bytes));
      stream.expires_after(options_.idle_timeout);
      auto [failed, bytes] = co_await http::async_read_header(stream, buffer, parser, kNoThrow);
      if (!failed) {
        // A stranger is sent away before his body is read.
        if (auto refused = refuse(parser.get())) {
          unread = !parser.is_done();
          keep = co_await write(stream, *refused, parser.get(), parser.get().keep_alive() && !unread);
          continue;
        }
        if (!parser.is_done() && beast::iequals(parser.get()[http::field::expect], "100-continue")) {
          if (!co_await send(stream, "HTTP/1.1 100 Continue\r\n\r\n")) break;
          stream.expires_after(options_.idle_timeout);
        }
        std::tie(failed, bytes) = co_await http::async_read(stream, buffer, parser, kNoThrow);
      }
      if (failed) {
        unread = true;
        const auto& request = parser.get();
        if (failed == http::error::body_limit || failed == http::error::buffer_overflow)
          co_await write(stream,
                         http_error(413, fmt::format("the body is larger than {} bytes", options_.max_body_bytes),
                                    "invalid_request_error"),
                         request, false);
        else if (failed == http::error::header_limit)
          co_await write(stream,
                         http_error(431, fmt::format("the headers are larger than {} bytes", options_.max_header_bytes),
                                    "invalid_request_error"),
                         request, false);
        else if (failed.category() == http::make_error_code(http::error::bad_method).category() &&
                 failed != http::error::end_of_stream)
          co_await write(stream, http_error(400, "not an HTTP request: " + failed.message(), "invalid_request_error"),
                         request, false);
        break;
      }
      keep = co_await answer(stream, parser.release());
    }
    stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
    // To close on bytes that were not read would take the answer back (RFC 9112, 9.6).
    for (stream.expires_after(kDrain); unread;) {
      buffer.clear();
      const auto [failed, bytes] = co_await stream.async_read_some(buffer.prepare(16 << 10), kNoThrow);
      if (failed) break;
    }
    --connections_;
  }

  bool origin_allowed(const http::request<http::string_body>& request) const {
    const std::string_view origin = field(request, http::field::origin);
    return origin.empty() || (loopback_ && is_loopback_name(host_name(origin))) ||
           host_name(origin) == host_name(field(request, http::field::host)) ||
           std::find(options_.origins.begin(), options_.origins.end(), origin) != options_.origins.end();
  }

  // Lets the page that was let in read the answer.
  std::string cross_origin(const http::request<http::string_body>& request) const {
    const std::string_view origin = field(request, http::field::origin);
    return origin.empty() ? "" : fmt::format("Access-Control-Allow-Origin: {}\r\nVary: Origin\r\n", origin);
  }

  // Host, Origin and key; an answer where one is wrong or nothing else is asked.
  std::optional<HttpResponse> refuse(const http::request<http::string_body>& request) const {
    const std::string_view host = field(request, http::field::host);
    if (request.version() >= 11 && host.empty())
      return http_error(400, "HTTP/1.1 wants a Host header", "invalid_request_error");
    // A web page of another origin must not drive this server, nor a foreign name that was made to point here (DNS
    // rebinding).
    if (loopback_ && !host.empty() && !is_loopback_name(host_name(host)))
      return http_error(403, "this server answers to localhost only", "permission_error");
    if (!origin_allowed(request)) return http_error(403, "this origin is not allowed", "permission_error");
    if (request.method() == http::verb::options) {  // what a browser asks before it sends a key
      HttpResponse may{
          .status = 204, .body = "", .content_type = "", .headers = {{"Allow", "GET, HEAD, POST, OPTIONS"}}};
      if (!field(request, http::field::origin).empty()) {
        may.headers.emplace_back("Access-Control-Allow-Methods", "GET, HEAD, POST");
        may.headers.emplace_back("Access-Control-Allow-Headers",
                                 std::string(field(request, http::field::access_control_request_headers)));
        may.headers.emplace_back("Access-Control-Max-Age", "600");
      }
      return may;
    }
    if (!options_.api_key.empty() && request.target() != "/health") {
      constexpr std::string_view kBearer = "Bearer ";
      const std::string_view header = field(request, http::field::authorization);
      if (!header.starts_with(kBearer) || !same_secret(header.substr(kBearer.size()), options_.api_key)) {
        auto response =
            http_error(401, "wrong or missing API key: send it as 'Authorization: Bearer KEY'", "authentication_error");
        response.headers.emplace_back("WWW-Authenticate", "Bearer");
        return response;
      }
    }
    return std::nullopt;
  }

  asio::awaitable<bool> answer(beast::tcp_stream& stream, http::request<http::string_body> request) {
    const bool keep = request.keep_alive();
    HttpRequest plain;
    // Of HEAD only the body of the answer is left out.
    plain.method = request.method() == http::verb::head ? "GET" : std::string(request.method_string());
    plain.path = std::string(request.target().substr(0, request.target().find('?')));
    plain.body = std::move(request.body());
    auto channel = std::make_shared<Channel>(stream.get_executor());
    active_.push_back(channel.get());
    stream.expires_never();
    auto watching = std::make_shared<bool>(true);
    asio::co_spawn(io_, watch(stream.socket(), channel, watching), asio::detached);
    try {
      handler_(std::move(plain), channel);
    } catch (const std::exception& failure) { channel->send(http_error(500, failure.what(), "server_error")); }
    const bool ok = co_await relay(stream, *channel, request, keep);
    channel->leave();
    *watching = false;
    error_code ignored;
    stream.socket().cancel(ignored);  // ends watch()
    std::erase(active_, channel.get());
    co_return ok&& keep;
  }

  // Notices that the client hangs up while nothing is being written.
  asio::awaitable<void> watch(tcp::socket& socket, std::shared_ptr<Channel> channel, std::shared_ptr<bool> watching) {
    for (;;) {
      const auto [failed] = co_await socket.async_wait(tcp::socket::wait_read, kNoThrow);
      if (!*watching || failed) co_return;
      pollfd state{socket.native_handle(), POLLRDHUP, 0};
      if (::poll(&state, 1, 0) > 0) co_return channel->leave(), channel->end();
      asio::steady_timer pause(io_, std::chrono::seconds(1));  // the next request lies there already
      co_await pause.async_wait(kNoThrow);
      if (!*watching) co_return;
    }
  }

  asio::awaitable<bool> relay(beast::tcp_stream& stream, Channel& channel,
                              const http::request<http::string_body>& request, bool keep) {
    bool started = false;
    const bool chunked = request.version() >= 11;  // HTTP/1.0 ends a stream by closing
    keep = keep && chunked;
    for (;;) {
      co_await channel.wait(options_.keep_alive);
      auto said = channel.take();
      if (channel.client_left()) co_return false;
      if (said.response) co_return co_await write(stream, *said.response, request, request.keep_alive());
      if (said.streaming && !started) {
        const std::string head = fmt::format(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
            "{}{}Connection: {}\r\n\r\n",
            chunked ? "Transfer-Encoding: chunked\r\n" : "", cross_origin(request), keep ? "keep-alive" : "close");
        if (!co_await send(stream, head)) co_return false;
        started = true;
      }
      if (started && !said.any()) said.events = ": " + said.comment + "\n\n";
      if (chunked && !said.events.empty()) said.events = fmt::format("{:x}\r\n{}\r\n", said.events.size(), said.events);
      if (!said.events.empty() && !co_await send(stream, std::move(said.events))) co_return false;
      if (!said.ended) continue;
      if (started && chunked && !co_await send(stream, "0\r\n\r\n")) co_return false;
      co_return started&& keep;
    }
  }

  asio::awaitable<bool> send(beast::tcp_stream& stream, std::string bytes) {
    stream.expires_after(options_.idle_timeout);
    const auto [failed, n] = co_await asio::async_write(stream, asio::buffer(bytes), kNoThrow);
    stream.expires_never();
    co_return !failed;
  }

  asio::awaitable<bool> write(beast::tcp_stream& stream, const HttpResponse& response,
                              const http::request<http::string_body>& request, bool keep) {
    http::response<http::string_body> out(http::status(response.status), 11);
    if (!response.content_type.empty()) out.set(http::field::content_type, response.content_type);
    if (!field(request, http::field::origin).empty() && origin_allowed(request)) {
      out.set(http::field::access_control_allow_origin, request[http::field::origin]);
      out.set(http::field::vary, "Origin");
    }
    for (const auto& [name, value] : response.headers) out.set(name, value);
    out.keep_alive(keep);
    out.body() = response.body;
    out.prepare_payload();
    if (response.status == 204) out.erase(http::field::content_length);  // RFC 9110, 8.6
    stream.expires_after(options_.idle_timeout);
    http::response_serializer<http::string_body> serializer(out);
    serializer.split(true);
    auto [failed, n] = co_await http::async_write_header(stream, serializer, kNoThrow);
    if (!failed && request.method() != http::verb::head)
      std::tie(failed, n) = co_await http::async_write(stream, serializer, kNoThrow);
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
  bool loopback_ = true, stopping_ = false;
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
