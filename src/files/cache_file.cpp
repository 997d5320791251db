#include "files/cache_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/sha.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "files/error.h"

namespace sonde {
namespace {

namespace fs = std::filesystem;

constexpr char kMagic[8] = {'s', 'o', 'n', 'd', 'e', 'p', 'k', '\n'};
constexpr std::size_t kBlock = std::size_t{8} << 20;  // handed to the system at once, aligned: it may use huge pages
constexpr int64_t kSpare = int64_t{1} << 30;          // left free on the disk, beside a twentieth of the file

struct Header {
  char magic[8] = {};
  uint32_t layout = 0, parts = 0;
  int64_t bytes = 0;
  Digest source{}, content{}, sum{};
};
static_assert(sizeof(Header) == 8 + 8 + 8 + 96 && sizeof(Header) <= CacheFile::kHeader);

Digest sum_of(const Header& header) {
  return sha256({reinterpret_cast<const char*>(&header), offsetof(Header, sum)});
}

Error system_error(const std::string& path, const char* what) {
  const int number = errno;
  const Code code = number == ENOSPC || number == EDQUOT || number == ENOMEM ? Code::kTooLarge : Code::kIo;
  return file_error(code, path, what, {}, std::generic_category().message(number));
}

fs::path folder_of(const std::string& path) {
  const fs::path folder = fs::path(path).parent_path();
  return folder.empty() ? fs::path(".") : folder;
}

// Files without a name vanish with their process; where the file system has none of these, a process that was killed
// leaves its temporary name behind. Its lock is gone then.
void sweep(const std::string& path) {
  const std::string beginning = fs::path(path).filename().string() + ".tmp-";
  std::error_code failed;
  for (fs::directory_iterator at(folder_of(path), failed), end; !failed && at != end; at.increment(failed)) {
    if (at->path().filename().string().rfind(beginning, 0) != 0) continue;
    const int fd = ::open(at->path().c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (fd < 0) continue;
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) ::unlink(at->path().c_str());
    ::close(fd);
  }
}

std::string temporary_name(const std::string& path) {
  static std::atomic<int> counter{0};
  return fmt::format("{}.tmp-{}-{}", path, ::getpid(), counter++);
}

}  // namespace

Digest sha256(std::string_view bytes) {
  Digest digest{};
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data());
  return digest;
}

std::string hex(std::span<const unsigned char> bytes) {
  std::string text;
  for (const unsigned char byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

CacheFile::CacheFile(std::string path, int fd, const Key& key, int64_t bytes)
    : path_(std::move(path)), fd_(fd), key_(key), bytes_(bytes) {}

CacheFile::~CacheFile() {
  if (base_ != nullptr) ::munmap(const_cast<std::byte*>(base_), std::size_t(kHeader + bytes_));
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  if (fd_ >= 0) ::close(fd_);
}

Status CacheFile::map() {
  void* base = ::mmap(nullptr, std::size_t(kHeader + bytes_), PROT_READ, MAP_SHARED, fd_, 0);
  if (base == MAP_FAILED) return system_error(path_, "the cache file cannot be mapped");
  // Pages that come from the disk from now on are huge ones, where the file system has them.
  ::madvise(base, std::size_t(kHeader + bytes_), MADV_HUGEPAGE);
  base_ = static_cast<const std::byte*>(base);
  return {};
}

std::unique_ptr<CacheFile> CacheFile::find(const std::string& path, const Key& key) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return nullptr;
  std::unique_ptr<CacheFile> file(new CacheFile(path, fd, key, 0));
  struct stat status{};
  std::array<char, kHeader> page{};
  Header header;
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size < kHeader) return nullptr;
  if (status.st_uid != ::geteuid() && status.st_uid != 0) return nullptr;  // another person's weights
  if (::pread(fd, page.data(), page.size(), 0) != ssize_t(page.size())) return nullptr;
  std::memcpy(&header, page.data(), sizeof header);
  if (std::any_of(page.begin() + sizeof header, page.end(), [](char c) { return c != 0; })) return nullptr;
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0 || header.sum != sum_of(header)) return nullptr;
  if (header.layout != key.layout || header.source != key.source) return nullptr;
  if (header.bytes <= 0 || header.bytes != status.st_size - kHeader) return nullptr;
  file->bytes_ = header.bytes, file->parts_ = header.parts, file->content_ = header.content;
  if (!file->map().ok()) return nullptr;
  return file;
}

Result<std::unique_ptr<CacheFile>> CacheFile::create(const std::string& path, const Key& key, int64_t bytes) {
  const fs::path folder = folder_of(path);
  std::error_code failed;
  fs::create_directories(folder, failed);
  if (failed) return file_error(Code::kIo, folder.string(), "the folder cannot be made", {}, failed.message());
  struct statvfs disk{};
  if (::statvfs(folder.c_str(), &disk) != 0) return system_error(folder.string(), "the folder cannot be examined");
  const double room = double(disk.f_bavail) * double(disk.f_frsize);
  const int64_t wanted = bytes + bytes / 20 + kSpare;
  if (room < double(wanted)) {
    return file_error(Code::kTooLarge, folder.string(), "the disk has no room for the cache file",
                      fmt::format("at least {} bytes free", wanted), fmt::format("{:.0f} bytes", room));
  }

  sweep(path);
  std::string temporary;
  int fd = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) {
    temporary = temporary_name(path);
    fd = ::open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return system_error(folder.string(), "the cache file cannot be written");
    ::flock(fd, LOCK_EX | LOCK_NB);
  }
  std::unique_ptr<CacheFile> file(new CacheFile(path, fd, key, bytes));
  file->temporary_ = std::move(temporary);
  if (::ftruncate(fd, kHeader + bytes) != 0) return system_error(path, "the cache file cannot be written");
  SONDE_CHECK(file->map());
  file->pending_.assign(std::size_t(kHeader), std::byte{});  // the header's place
  return file;
}

Status CacheFile::put(std::span<const std::byte> bytes, int64_t at) {
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t n = ::pwrite(fd_, bytes.data() + done, bytes.size() - done, at + int64_t(done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return system_error(path_, "writing the cache file failed");
    done += std::size_t(n);
  }
  return {};
}

Status CacheFile::flush(std::size_t count) {
  SONDE_CHECK(put(std::span(pending_).first(count), position_));
  // The disk works while the next block is being made; a hint.
  ::sync_file_range(fd_, position_, off64_t(count), SYNC_FILE_RANGE_WRITE);
  position_ += int64_t(count);
  pending_.erase(pending_.begin(), pending_.begin() + std::ptrdiff_t(count));
  return {};
}

Status CacheFile::write(std::span<const std::byte> bytes) {
  if (int64_t(bytes.size()) > kHeader + bytes_ - position_ - int64_t(pending_.size()))
    return file_error(Code::kInternal, path_, "more bytes than the cache file was made for");
  pending_.insert(pending_.end(), bytes.begin(), bytes.end());
  return pending_.size() < kBlock ? Status{} : flush(pending_.size() / kBlock * kBlock);
}

Status CacheFile::commit(uint32_t parts, const Digest& content) {
  SONDE_CHECK(flush(pending_.size()));
  if (position_ != kHeader + bytes_)
    return file_error(Code::kInternal, path_, "fewer bytes than the cache file was made for");
  if (::fsync(fd_) != 0) return system_error(path_, "writing the cache file failed");
  Header header;
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.layout = key_.layout, header.parts = parts_ = parts, header.bytes = bytes_;
  header.source = key_.source, header.content = content_ = content;
  header.sum = sum_of(header);
  SONDE_CHECK(put(std::as_bytes(std::span(&header, 1)), 0));
  if (::fsync(fd_) != 0) return system_error(path_, "writing the cache file failed");
  if (temporary_.empty()) {
    // A link cannot replace a file, a renaming can.
    std::string name = temporary_name(path_);
    const std::string nameless = fmt::format("/proc/self/fd/{}", fd_);
    if (::linkat(AT_FDCWD, nameless.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) != 0)
      return system_error(path_, "the cache file cannot be put in place");
    temporary_ = std::move(name);
  }
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0)
    return system_error(path_, "the cache file cannot be put in place");
  temporary_.clear();
  pending_ = {};
  return {};
}

Result<bool> remove_cache_file(const std::string& path) {
  if (::unlink(path.c_str()) == 0) return true;
  if (errno == ENOENT || errno == ENOTDIR) return false;
  return system_error(path, "the cache file cannot be removed");
}

}  // namespace sonde
