// A client of a few lines over a plain socket: what the tests send is what goes over the wire.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace sonde::test {

class Connection {
 public:
  explicit Connection(uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    connected_ = ::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    const timeval patience{60, 0};
    setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  }
  ~Connection() { close(); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  bool connected() const { return connected_; }
  void close() {
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
  }
  void send(const std::string& bytes) {
    for (std::size_t at = 0; at < bytes.size();) {
      const ssize_t n = ::send(socket_, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
      if (n <= 0) return;
      at += std::size_t(n);
    }
  }
  // Reads until `mark` has come, or the other side is done; what came so far.
  const std::string& read_until(const std::string& mark) {
    char piece[4096];
    while (received_.find(mark) == std::string::npos) {
      const ssize_t n = ::recv(socket_, piece, sizeof piece, 0);
      if (n <= 0) break;
      received_.append(piece, std::size_t(n));
    }
    return received_;
  }

 private:
  int socket_;
  bool connected_ = false;
  std::string received_;
};

struct Answer {
  int status = 0;
  std::string head, body;
};

using Headers = std::vector<std::pair<std::string, std::string>>;

inline std::string request_text(const std::string& method, const std::string& path, const std::string& body,
                                Headers headers) {
  bool host = false;
  std::string text = method + " " + path + " HTTP/1.1\r\n";
  for (const auto& [name, value] : headers) text += name + ": " + value + "\r\n", host |= name == "Host";
  if (!host) text += "Host: 127.0.0.1\r\n";
  return text + "Connection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

// A chunked body put together.
inline std::string unchunk(const std::string& body) {
  std::string out;
  for (std::size_t at = 0; at < body.size();) {
    char* end = nullptr;
    const std::size_t size = std::strtoul(body.c_str() + at, &end, 16);
    at = std::size_t(end - body.c_str()) + 2;
    if (size == 0 || at + size > body.size()) break;
    out += body.substr(at, size), at += size + 2;
  }
  return out;
}

inline Answer http(uint16_t port, const std::string& method, const std::string& path, const std::string& body = "",
                   Headers headers = {}) {
  Connection connection(port);
  connection.send(request_text(method, path, body, std::move(headers)));
  const std::string all = connection.read_until("\r\n\r\n\r\n never");  // until the server closes
  Answer answer;
  const std::size_t split = all.find("\r\n\r\n");
  if (split == std::string::npos) return answer;
  answer.head = all.substr(0, split), answer.body = all.substr(split + 4);
  answer.status = std::atoi(answer.head.c_str() + 9);
  if (answer.head.find("Transfer-Encoding: chunked") != std::string::npos) answer.body = unchunk(answer.body);
  return answer;
}

}  // namespace sonde::test
