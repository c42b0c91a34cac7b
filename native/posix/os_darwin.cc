#include "os.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stdio.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>

#include "../platform_mutex.h"

namespace os_mutex {
namespace {

// flock is no cancellation point on macOS, so only a signal with a handler that is not SA_RESTART gets a thread out of it.
// SIGURG: ignored by default, and used by neither Node nor libuv. It is sent to the waiter's thread alone.
constexpr int kWakeSignal = SIGURG;
constexpr useconds_t kResendUs = 200;

void wake(int) {}

// A handler that the user's process has installed stays: pthread_kill then runs it as well, on the waiter's thread.
// Only where it was left at its default do we set ours.
void installHandler() {
  static const bool installed = [] {
    struct sigaction action;
    sigaction(kWakeSignal, nullptr, &action);
    if ((action.sa_flags & SA_SIGINFO) == 0 && (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN)) {
      action = {};
      action.sa_handler = wake;
    }
    action.sa_flags &= ~SA_RESTART;
    return sigaction(kWakeSignal, &action, nullptr) == 0;
  }();
  (void)installed;
}

}  // namespace

int createWhole(const std::string&, mode_t, void (*)(int)) { return ENOTSUP; }

int renameNoReplace(const char* from, const char* to) {
  return ::renamex_np(from, to, RENAME_EXCL) == 0 ? 0 : errno;
}

NameState lookUp(const char* path, const struct stat& file) {
  struct stat found;
  if (::lstat(path, &found) != 0) return errno == ENOENT ? NameState::missing : NameState::unknown;
  return found.st_ino == file.st_ino && found.st_dev == file.st_dev ? NameState::same : NameState::other;
}

View currentView() {
  View view;
  struct stat root;
  if (::stat("/", &root) == 0) view = {true, 0, root.st_dev, root.st_ino};
  return view;
}

// tmp_cleaner goes by the time stamps alone.
bool shieldFromCleaners(int, const struct stat&, bool) { return false; }

// On macOS flock and fcntl locks are of one family, and F_GETLK tells of both; a flock's owner has no pid there (-1).
KernelWord askKernel(int fd, const struct stat&, long& pid) {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  pid = 0;
  if (::fcntl(fd, F_GETLK, &lock) != 0) return KernelWord::unknown;
  if (lock.l_type == F_UNLCK) return KernelWord::free;
  if (lock.l_pid > 0) pid = lock.l_pid;
  return KernelWord::held;
}

int interruptibleFlock(int fd) {
  installHandler();
  sigset_t signals;
  sigset_t before;
  sigemptyset(&signals);
  sigaddset(&signals, kWakeSignal);
  pthread_sigmask(SIG_UNBLOCK, &signals, &before);
  const int error = ::flock(fd, LOCK_EX) == 0 ? 0 : errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return error;
}

void nameThisThread(const char* name) { pthread_setname_np(name); }

// A signal that comes just before the call is lost, so it is sent again until the thread says that it is past it.
void endThread(pthread_t thread, const std::atomic<bool>& leaving) {
  while (!leaving.load()) {
    pthread_kill(thread, kWakeSignal);
    ::usleep(kResendUs);
  }
  pthread_join(thread, nullptr);
}

int takeBlocks(int fd, off_t bytes) {
  struct stat file;
  if (::fstat(fd, &file) != 0) return errno;
  // Counted from what the file has by now, not from its beginning.
  const off_t missing = bytes - static_cast<off_t>(file.st_blocks) * 512;
  fstore_t store = {F_ALLOCATEALL, F_PEOFPOSMODE, 0, missing, 0};
  return missing <= 0 || ::fcntl(fd, F_PREALLOCATE, &store) == 0 ? 0 : errno;
}

const char* unsafeFileSystem(const std::string& directory) {
  struct statfs status;
  if (::statfs(directory.c_str(), &status) != 0) return nullptr;
  const std::string type = status.f_fstypename;
  if (type == "nfs") return "NFS";
  if (type == "smbfs") return "SMB";
  if (type == "afpfs") return "AFP";
  if (type == "webdav") return "WebDAV";
  if (type.find("fuse") != std::string::npos) return "FUSE";
  return nullptr;
}

}  // namespace os_mutex
