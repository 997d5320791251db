#include "files/output.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include "files/error.h"

namespace sonde {
namespace {

constexpr std::size_t kBuffer = std::size_t{1} << 20;

Error system_error(const std::string& path, const char* what) {
  const int number = errno;
  return file_error(Code::kIo, path, what, {}, std::generic_category().message(number));
}

}  // namespace

OutputFile::OutputFile(std::string path, std::string temporary, int fd)
    : path_(std::move(path)), temporary_(std::move(temporary)), fd_(fd) {}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Result<std::unique_ptr<OutputFile>> OutputFile::create(const std::string& path) {
  static std::atomic<int> counter{0};  // two files of one process may be bound for the same name
  std::string temporary = fmt::format("{}.tmp-{}-{}", path, ::getpid(), counter++);
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) return system_error(path, "the file cannot be written");
  return std::unique_ptr<OutputFile>(new OutputFile(path, std::move(temporary), fd));
}

Status OutputFile::write(std::span<const std::byte> bytes) {
  const auto* data = reinterpret_cast<const char*>(bytes.data());
  position_ += static_cast<int64_t>(bytes.size());
  if (buffer_.size() + bytes.size() <= kBuffer) {
    buffer_.append(data, bytes.size());
    return {};
  }
  SONDE_CHECK(flush());
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t n = ::write(fd_, data + done, std::min(bytes.size() - done, std::size_t{1} << 30));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error(path_, "writing failed");
    done += static_cast<std::size_t>(n);
  }
  return {};
}

Status OutputFile::flush() {
  for (std::size_t done = 0; done < buffer_.size();) {
    const ssize_t n = ::write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error(path_, "writing failed");
    done += static_cast<std::size_t>(n);
  }
  buffer_.clear();
  return {};
}

Status OutputFile::zeros(int64_t count) {
  const std::string zero(static_cast<std::size_t>(std::clamp<int64_t>(count, 0, 4096)), '\0');
  for (; count > 0; count -= static_cast<int64_t>(zero.size())) {
    SONDE_CHECK(write(std::string_view(zero).substr(0, static_cast<std::size_t>(count))));
  }
  return {};
}

Status OutputFile::commit() {
  SONDE_CHECK(flush());
  if (::fsync(fd_) != 0 && errno != EINVAL && errno != EROFS) return system_error(path_, "writing failed");
  const int fd = std::exchange(fd_, -1);
  if (::close(fd) != 0) return system_error(path_, "writing failed");
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0)
    return system_error(path_, "the file cannot be put in place");
  temporary_.clear();
  return {};
}

Status write_text(const std::string& path, std::string_view text) {
  SONDE_TRY(auto file, OutputFile::create(path));
  SONDE_CHECK(file->write(text));
  return file->commit();
}

}  // namespace sonde
