#include "files/map.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/memory.h"
#include "files/error.h"

namespace sonde {
namespace {

Error system_error(const std::string& path, const char* what) {
  const int number = errno;
  const Code code = number == ENOENT ? Code::kNotFound : Code::kIo;
  return file_error(code, path, what, {}, std::generic_category().message(number));
}

struct Descriptor {
  int fd = -1;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

Result<struct stat> open_file(const std::string& path, Descriptor& file) {
  // O_NONBLOCK: a pipe of that name must not make us wait; it means nothing for ordinary files.
  file.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.fd < 0) return system_error(path, "the file cannot be opened");
  struct stat status{};
  if (::fstat(file.fd, &status) != 0) return system_error(path, "the file cannot be examined");
  if (!S_ISREG(status.st_mode)) {
    return file_error(Code::kInvalid, path, "not an ordinary file", "a file",
                      S_ISDIR(status.st_mode) ? "a folder" : "");
  }
  return status;
}

}  // namespace

MappedFile::MappedFile(std::string path, const std::byte* data, std::size_t size, int64_t modified)
    : path_(std::move(path)), data_(data), size_(size), modified_(modified) {}

MappedFile::~MappedFile() {
  if (size_ > 0) ::munmap(const_cast<std::byte*>(data_), size_);
}

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::string& path) {
  Descriptor file;
  SONDE_TRY(const struct stat status, open_file(path, file));
  const auto size = static_cast<std::size_t>(status.st_size);
  void* data = nullptr;
  if (size > 0) {
    data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.fd, 0);
    if (data == MAP_FAILED) {
      Error error = system_error(path, "the file cannot be mapped");
      error.expected = fmt::format("at most {} bytes, which this process may still use", memory_available());
      error.found = fmt::format("{} bytes; {}", size, error.found);
      return error;
    }
  }
  return std::shared_ptr<const MappedFile>(
      new MappedFile(path, static_cast<const std::byte*>(data), size,
                     int64_t{status.st_mtim.tv_sec} * 1000000000 + status.st_mtim.tv_nsec));
}

void advise(std::span<const std::byte> bytes, Advice advice) {
  if (bytes.empty()) return;
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::uintptr_t>(bytes.data());
  const std::uintptr_t start = address / page * page;
  const int how = advice == Advice::kSequential ? MADV_SEQUENTIAL
                  : advice == Advice::kRandom   ? MADV_RANDOM
                  : advice == Advice::kDone     ? MADV_DONTNEED
                                                : MADV_WILLNEED;
  // What is done with shall also be the first to leave the system's cache.
  if (advice == Advice::kDone) ::madvise(reinterpret_cast<void*>(start), bytes.size() + (address - start), MADV_COLD);
  ::madvise(reinterpret_cast<void*>(start), bytes.size() + (address - start), how);
}

Result<std::string> read_text(const std::string& path, int64_t limit) {
  Descriptor file;
  SONDE_TRY(const struct stat status, open_file(path, file));
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size > static_cast<std::size_t>(limit)) {
    return file_error(Code::kTooLarge, path, "the file is too large for what it should hold",
                      fmt::format("at most {} bytes", limit), fmt::format("{} bytes", size));
  }
  std::string text(size, '\0');
  std::size_t done = 0;
  while (done < size) {
    const ssize_t n = ::read(file.fd, text.data() + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error(path, "the file cannot be read");
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  text.resize(done);
  return text;
}

}  // namespace sonde
