#include "lock_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <map>

#include "../owner_record.h"
#include "../sync.h"
#include "os.h"

namespace os_mutex {
namespace {

// O_NONBLOCK: opening a FIFO that was planted under the name must not hang. O_NOFOLLOW: nor follow a planted link.
constexpr int kOpenFlags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
constexpr mode_t kGlobalMode = 0666;  // any user may lock the file and write its record
constexpr mode_t kLocalMode = 0600;
constexpr mode_t kUserDirectoryMode = 0700;
constexpr int kAttempts = 100;  // rounds of a file that vanishes or appears between two calls

bool fail(Failure& failure, FailureKind kind, int error, const char* call, const std::string& path) {
  failure = {kind == FailureKind::system ? failureKindOf(error) : kind, error, call, path};
  return false;
}

bool isSameFile(const struct stat& a, const struct stat& b) { return a.st_ino == b.st_ino && a.st_dev == b.st_dev; }

// systemd-tmpfiles skips a folder that somebody has locked, with everything in it. So this process holds one shared
// lock on the user's own folder for as long as it has a file open there: no timer could protect a file while its
// process is stopped or its machine asleep. During a cleaning the lock can't be had. Then only the files' ages protect
// them.
std::shared_ptr<Descriptor> holdFolder(const std::string& path, Descriptor directory, const struct stat& status) {
  struct Held {
    std::weak_ptr<Descriptor> directory;
    struct stat status;
  };
  static Mutex mutex;
  static auto* const all = std::make_unique<std::map<std::string, Held>>().release();
  Guard guard(mutex);
  Held& held = (*all)[path];
  std::shared_ptr<Descriptor> found = held.directory.lock();
  if (!found || !isSameFile(held.status, status)) {
    found = std::make_shared<Descriptor>(std::move(directory));
    held = {found, status};
  }
  ::flock(found->get(), LOCK_SH | LOCK_NB);
  return found;
}

// The user's own directory, made on first use. Others can neither plant nor unlink anything in it.
bool prepareUserDirectory(const MutexLocation& location, std::shared_ptr<Descriptor>& folder, Failure& failure) {
  const std::string& path = location.ownDirectory;
  const bool created = ::mkdir(path.c_str(), kUserDirectoryMode) == 0;
  if (!created && errno != EEXIST) return fail(failure, FailureKind::system, errno, "mkdir", path);

  Descriptor directory(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW));
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
  folder = holdFolder(path, std::move(directory), status);
  return true;
}

// A free record takes the disk block that later records need. If there is none, the first owner learns of it, and not
// only the owner that comes after its crash.
void writeFirstRecord(int fd) {
  const EncodedRecord free("", kFree);
  char bytes[kHeaderSize + 1] = {kNotQueued};
  free.bytes().copy(bytes + kStateOffset, sizeof bytes - kStateOffset);
  while (::pwrite(fd, bytes, sizeof bytes, 0) < 0 && errno == EINTR) {}
}

// Anybody may give a second name to a lock file that everybody may write to, and that name stays. It is refused only if
// a record could damage somebody's data: if the file has other content, or is empty but not writable by everybody.
bool mayWriteInto(int fd, const struct stat& status) {
  if (status.st_nlink <= 1) return true;
  char bytes[kHeaderSize];
  const ssize_t count = ::pread(fd, bytes, sizeof bytes, 0);
  if (count == 0) return (status.st_mode & S_IWOTH) != 0;
  return count > 0 && isRecord({bytes, static_cast<size_t>(count)});
}

mode_t modeFor(const MutexLocation& location) {
  if (location.mode != 0) return static_cast<mode_t>(location.mode);
  return location.ownDirectory.empty() ? kGlobalMode : kLocalMode;
}

int openExistingFile(const MutexLocation& location) {
  const int fd = ::open(location.path.c_str(), kOpenFlags);
  if (fd >= 0 || location.mode == 0 || (errno != EACCES && errno != EROFS)) return fd;
  return ::open(location.path.c_str(), (kOpenFlags & ~O_ACCMODE) | O_RDONLY);
}

// Makes the file appear under its name with its final mode at once. With open(O_CREAT) and fchmod after it, a process
// killed between the two would leave a file that, under umask 077, no other user could ever open.
// 0: made; else errno, EEXIST when somebody else was first.
int createFile(const MutexLocation& location) {
  static std::atomic<unsigned> counter{0};
  const std::string& path = location.path;
  const mode_t mode = modeFor(location);
  const int made = createWhole(path, mode, &writeFirstRecord);
  if (made != ENOTSUP) return made;

  // By way of a temporary name. A process that is killed before the rename leaves it behind.
  const std::string temporary =
      path.substr(0, path.rfind('/') + 1) + ".os-mutex~" + std::to_string(::getpid()) + "." + std::to_string(counter++);

  const int flags = kOpenFlags | O_CREAT | O_EXCL;
  Descriptor file(::open(temporary.c_str(), flags, mode));
  if (!file) return errno;
  ::fchmod(file.get(), mode);
  writeFirstRecord(file.get());
  const int error = renameNoReplace(temporary.c_str(), path.c_str());
  if (error == 0) return 0;
  ::unlink(temporary.c_str());
  if (error == EEXIST) return EEXIST;

  // A file system without such a rename: the plain way, with the gap described above.
  file = Descriptor(::open(path.c_str(), flags, mode));
  if (!file) return errno;
  ::fchmod(file.get(), mode);
  writeFirstRecord(file.get());
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
  if (!location.ownDirectory.empty() && !prepareUserDirectory(location, folder_, failure)) return false;
  const std::string& path = location.path;
  for (int attempt = 0; attempt < kAttempts; attempt++) {
    // First without O_CREAT: with fs.protected_regular, O_CREAT on another user's file in a sticky directory is
    // refused.
    const int fd = openExistingFile(location);
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
  const int fd = openExistingFile(location);
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
  if (!mayWriteInto(fd, status)) return fail(failure, FailureKind::hardLinked, 0, "open", location.path);
  // In the user's own directory, every file is the user's. Only query() comes here without having checked the
  // directory.
  if (!location.ownDirectory.empty() && status.st_uid != ::geteuid()) {
    return fail(failure, FailureKind::foreignDirectory, EPERM, "open", location.ownDirectory);
  }
  file_ = std::move(file);
  identity_ = status;
  view_ = currentView();
  shielded_ = false;
  return true;
}

void LockFile::close() {
  file_.reset();
  folder_.reset();
}

bool LockFile::isStillNamed(const MutexLocation& location) const {
  return lookUp(location.path.c_str(), identity_) == NameState::same;
}

bool LockFile::hasLostName(const MutexLocation& location) const {
  struct stat status;
  if (identity_.st_nlink > 0 && ::fstat(file_.get(), &status) == 0 && status.st_nlink == 0) return true;
  const NameState name = lookUp(location.path.c_str(), identity_);
  if (name != NameState::other && name != NameState::missing) return false;
  const View view = currentView();
  return view.isKnown && view_.isKnown && view.mounts == view_.mounts && view.root == view_.root &&
         view.rootDevice == view_.rootDevice;
}

void LockFile::touch() const {
  ::futimens(file_.get(), nullptr);
  if (folder_) ::flock(folder_->get(), LOCK_SH | LOCK_NB);
}

void LockFile::shield(bool on) {
  if (on != shielded_ && shieldFromCleaners(file_.get(), on)) shielded_ = on;
}

std::string_view LockFile::read(char* buffer, size_t size) const {
  const ssize_t count = ::pread(file_.get(), buffer, size, 0);
  return {buffer, count > 0 ? static_cast<size_t>(count) : 0};
}

int LockFile::write(std::string_view bytes, long offset) const {
  for (;;) {
    const ssize_t count = ::pwrite(file_.get(), bytes.data(), bytes.size(), offset);
    if (count == static_cast<ssize_t>(bytes.size())) return 0;
    if (count >= 0) return ENOSPC;
    if (errno != EINTR) return errno;
  }
}

}  // namespace os_mutex
