#include "os.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mount.h>
#include <sys/stdio.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "../file_hold.h"
#include "../platform_mutex.h"

namespace os_mutex {
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
bool shieldFromCleaners(int, bool) { return false; }

// On macOS flock and fcntl locks are of one family, and F_GETLK reports both. For a flock it reports no pid (-1).
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

void nameThisThread(const char* name) { pthread_setname_np(name); }

int takeBlocks(int fd, off_t bytes) {
  struct stat file;
  if (::fstat(fd, &file) != 0) return errno;
  // F_PREALLOCATE counts from what the file has by now, not from its beginning.
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

bool isLocalFileSystem(const std::string& directory) {
  struct statfs status;
  if (::statfs(directory.c_str(), &status) != 0) return false;
  const std::string type = status.f_fstypename;
  return (status.f_flags & MNT_LOCAL) != 0 && (type == "apfs" || type == "hfs" || type == "msdos" || type == "exfat" || type == "ntfs");
}

}  // namespace os_mutex
