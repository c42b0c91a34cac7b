#include "lock_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "os.h"

namespace os_mutex {
namespace {

// O_NONBLOCK: opening a FIFO that was planted under the name must not hang. O_NOFOLLOW: nor follow a planted link.
constexpr int kOpenFlags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
constexpr mode_t kGlobalMode = 0666;  // any user may lock and say who owns
constexpr mode_t kLocalMode = 0600;
constexpr mode_t kUserDirectoryMode = 0700;
constexpr int kAttempts = 100;  // rounds of a file that vanishes or appears between two calls

bool fail(Failure& failure, FailureKind kind, int error, const char* call, const std::string& path) {
  failure = {kind, error, call, path};
  return false;
}

// The user's own directory, made on first use. Others can neither plant nor unlink anything in it.
bool prepareUserDirectory(const MutexLocation& location, Failure& failure) {
  const std::string& path = location.ownDirectory;
  const bool created = ::mkdir(path.c_str(), kUserDirectoryMode) == 0;
  if (!created && errno != EEXIST) return fail(failure, FailureKind::system, errno, "mkdir", path);

  const Descriptor directory(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW));
  if (!directory) {
    // O_NOFOLLOW with O_DIRECTORY answers ENOTDIR or ELOOP for a link
    if (errno == ENOTDIR || errno == ELOOP) return fail(failure, FailureKind::foreignDirectory, errno, "open", path);
    return fail(failure, FailureKind::system, errno, "open", path);
  }
  // The umask may have taken bits away that the owner needs.
  if (created) ::fchmod(directory.get(), kUserDirectoryMode);
  struct stat status;
  if (::fstat(directory.get(), &status) != 0) return fail(failure, FailureKind::system, errno, "fstat", path);
  if (status.st_uid != ::geteuid() || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return fail(failure, FailureKind::foreignDirectory, EPERM, "open", path);
  }
  return true;
}

// Makes the file appear under its name with its final mode at once. With open(O_CREAT) and fchmod after it, a process
// killed between the two would leave a file that, under umask 077, no other user could ever open.
// 0: made; else errno, EEXIST when somebody else was first.
int createFile(const MutexLocation& location) {
  static std::atomic<unsigned> counter{0};
  const std::string& path = location.path;
  const mode_t mode = location.ownDirectory.empty() ? kGlobalMode : kLocalMode;
  const int made = createWhole(path, mode);
  if (made != ENOTSUP) return made;

  // By way of another name, which a process leaves behind that is killed before the rename.
  const std::string temporary =
      path.substr(0, path.rfind('/') + 1) + ".os-mutex~" + std::to_string(::getpid()) + "." + std::to_string(counter++);

  const int flags = kOpenFlags | O_CREAT | O_EXCL;
  Descriptor file(::open(temporary.c_str(), flags, mode));
  if (!file) return errno;
  ::fchmod(file.get(), mode);
  const int error = renameNoReplace(temporary.c_str(), path.c_str());
  if (error == 0) return 0;
  ::unlink(temporary.c_str());
  if (error == EEXIST) return EEXIST;

  // A file system without such a rename: the plain way, with the gap told above.
  file = Descriptor(::open(path.c_str(), flags, mode));
  if (!file) return errno;
  ::fchmod(file.get(), mode);
  return 0;
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = other.release();
  }
  return *this;
}

void Descriptor::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

int Descriptor::release() {
  const int fd = fd_;
  fd_ = -1;
  return fd;
}

bool LockFile::open(const MutexLocation& location, Failure& failure) {
  if (isOpen()) return true;
  if (!location.ownDirectory.empty() && !prepareUserDirectory(location, failure)) return false;
  const std::string& path = location.path;
  for (int attempt = 0; attempt < kAttempts; attempt++) {
    // First without O_CREAT: with fs.protected_regular, O_CREAT on another user's file in a sticky directory is refused.
    const int fd = ::open(path.c_str(), kOpenFlags);
    if (fd >= 0) return adopt(fd, location, failure);
    if (errno == ELOOP || errno == EISDIR || errno == ENXIO) {
      return fail(failure, FailureKind::notRegularFile, errno, "open", path);
    }
    if (errno != ENOENT) return fail(failure, FailureKind::system, errno, "open", path);
    const int error = createFile(location);
    if (error != 0 && error != EEXIST) return fail(failure, FailureKind::system, error, "open", path);
  }
  return fail(failure, FailureKind::system, EAGAIN, "open", path);
}

bool LockFile::openExisting(const MutexLocation& location, Failure& failure) {
  if (isOpen()) return true;
  const std::string& path = location.path;
  const int fd = ::open(path.c_str(), kOpenFlags);
  if (fd >= 0) return adopt(fd, location, failure);
  if (errno == ENOENT) return false;
  const bool odd = errno == ELOOP || errno == EISDIR || errno == ENXIO;
  return fail(failure, odd ? FailureKind::notRegularFile : FailureKind::system, errno, "open", path);
}

bool LockFile::adopt(int fd, const MutexLocation& location, Failure& failure) {
  Descriptor file(fd);
  struct stat status;
  if (::fstat(fd, &status) != 0) return fail(failure, FailureKind::system, errno, "fstat", location.path);
  if (!S_ISREG(status.st_mode)) return fail(failure, FailureKind::notRegularFile, 0, "open", location.path);
  if (status.st_nlink > 1) return fail(failure, FailureKind::hardLinked, 0, "open", location.path);
  // Nobody else's is in a directory of one's own. Only query() comes here without having looked at the directory.
  if (!location.ownDirectory.empty() && status.st_uid != ::geteuid()) {
    return fail(failure, FailureKind::foreignDirectory, EPERM, "open", location.ownDirectory);
  }
  file_ = std::move(file);
  identity_ = status;
  return true;
}

void LockFile::close() { file_.reset(); }

bool LockFile::isStillNamed(const MutexLocation& location) const { return leadsTo(location.path.c_str(), identity_); }

std::string_view LockFile::read(char* buffer, size_t size) const {
  const ssize_t count = ::pread(file_.get(), buffer, size, 0);
  return {buffer, count > 0 ? static_cast<size_t>(count) : 0};
}

// A record that cannot be written (disk full, quota) must not stop the lock: it is for people and messages. But then a
// crash goes untold, so the state byte, which needs no new block in an existing file, is tried on its own.
void LockFile::write(std::string_view bytes, long offset) const {
  if (bytes.empty() || ::pwrite(file_.get(), bytes.data(), bytes.size(), offset) > 0) return;
  if (bytes.size() > 1 && ::pwrite(file_.get(), bytes.data(), 1, offset) < 0) return;
}

}  // namespace os_mutex
