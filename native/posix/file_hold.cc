// flock(2). It belongs to the open file description, so other descriptors of the file, those of this process as well,
// read and write it undisturbed, and their closing frees nothing.
#include "../file_hold.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "lock_file.h"
#include "os.h"

namespace os_mutex {
namespace {

class PosixFileHold final : public FileHold {
 public:
  PosixFileHold(Descriptor file, const struct stat& identity) : file_(std::move(file)), identity_(identity) {}
  bool isNamed(const std::string& path) const override { return lookUp(path.c_str(), identity_) == NameState::same; }

 private:
  const Descriptor file_;
  const struct stat identity_;
};

// Another user's file that can only be read can be locked all the same: to remove it, a folder that may be written is
// enough.
int openAnyhow(const char* path) {
  constexpr int kFlags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  const int fd = ::open(path, O_RDWR | kFlags);
  return fd < 0 && (errno == EACCES || errno == EROFS) ? ::open(path, O_RDONLY | kFlags) : fd;
}

}  // namespace

HoldResult FileHold::open(const std::string& path, std::unique_ptr<FileHold>& hold, Failure& failure) {
  Descriptor file(openAnyhow(path.c_str()));
  if (!file) {
    if (errno == ENOENT) return HoldResult::gone;
    failure = {failureKindOf(errno), errno, "open", path};
    return HoldResult::failed;
  }
  int error = 0;
  do {
    error = ::flock(file.get(), LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
  } while (error == EINTR);
  if (error == EWOULDBLOCK) return HoldResult::taken;
  struct stat identity;
  if (error == 0 && ::fstat(file.get(), &identity) != 0) error = errno;
  if (error != 0) {
    failure = {FailureKind::system, error, "flock", path};
    return HoldResult::failed;
  }
  // It may have been removed, or renamed, between the two calls: then the lock binds nobody who comes now.
  if (lookUp(path.c_str(), identity) != NameState::same) return HoldResult::gone;
  hold = std::make_unique<PosixFileHold>(std::move(file), identity);
  return HoldResult::held;
}

}  // namespace os_mutex
