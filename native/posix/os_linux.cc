#include "os.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <pthread.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "../file_hold.h"
#include "lock_file.h"

#ifndef CIFS_SUPER_MAGIC
#define CIFS_SUPER_MAGIC 0xFF534D42
#endif
#ifndef SMB2_SUPER_MAGIC
#define SMB2_SUPER_MAGIC 0xFE534D42
#endif
#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif
#ifndef LUSTRE_SUPER_MAGIC
#define LUSTRE_SUPER_MAGIC 0x0BD00BD0
#endif
// Not in every linux/magic.h.
constexpr unsigned long kXfsMagic = 0x58465342;
constexpr unsigned long kZfsMagic = 0x2FC12FC1;
constexpr unsigned long kF2fsMagic = 0xF2F52010;
constexpr unsigned long kBcachefsMagic = 0xCA451A4E;
constexpr unsigned long kNtfs3Magic = 0x7366746E;
constexpr unsigned long kExfatMagic = 0x2011BAB0;

namespace os_mutex {

// Names the file by its descriptor in /proc, since linkat(AT_EMPTY_PATH) needs a privilege before Linux 6.10.
int createWhole(const std::string& path, mode_t mode, void (*fill)(int fd)) {
  const Descriptor file(::open(path.substr(0, path.rfind('/') + 1).c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, mode));
  if (!file || ::fchmod(file.get(), mode) != 0) return ENOTSUP;
  fill(file.get());
  const std::string unnamed = "/proc/self/fd/" + std::to_string(file.get());
  if (::linkat(AT_FDCWD, unnamed.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0) return 0;
  return errno == EEXIST ? EEXIST : ENOTSUP;
}

int renameNoReplace(const char* from, const char* to) {
  return ::syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0 ? 0 : errno;
}

// Avoids lstat, which reads the time stamps, too: since Linux 6.13 the next write to a file whose stamps were read,
// here the owner record's, pays for exact stamps (measured: 2 µs more for an acquire and release on ext4). Calls statx
// by its number, since older musl has no function for it. Some sandboxes refuse calls that they do not know: then lstat
// is used.
NameState lookUp(const char* path, const struct stat& file) {
  struct statx found;
  if (::syscall(SYS_statx, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_INO, &found) == 0) {
    const bool same = found.stx_ino == file.st_ino && found.stx_dev_major == major(file.st_dev) &&
                      found.stx_dev_minor == minor(file.st_dev);
    return same ? NameState::same : NameState::other;
  }
  struct stat status;
  if ((errno == ENOSYS || errno == EPERM) && ::lstat(path, &status) == 0) {
    return status.st_ino == file.st_ino && status.st_dev == file.st_dev ? NameState::same : NameState::other;
  }
  return errno == ENOENT ? NameState::missing : NameState::unknown;
}

// A thread may have its own namespace (unshare), so this does not ask /proc/self, which is the main thread's.
View currentView() {
  View view;
  struct stat mounts;
  struct stat root;
  if (::stat("/proc/thread-self/ns/mnt", &mounts) != 0 || ::stat("/", &root) != 0) return view;
  view = {true, mounts.st_ino, root.st_dev, root.st_ino};
  return view;
}

// systemd-tmpfiles removes no file that has the sticky bit, which means nothing else on a file (tmpfiles.d(5),
// inode(7)). Only that bit changes: an administrator may have changed the others meanwhile.
bool shieldFromCleaners(int fd, bool on) {
  struct stat now;
  if (::fstat(fd, &now) != 0) return false;
  const mode_t mode = now.st_mode & 07777 & ~static_cast<mode_t>(S_ISVTX);
  return ::fchmod(fd, on ? mode | S_ISVTX : mode) == 0;
}

// Not posix_fallocate: if the file system can't do it, the C library writes zeros instead, over what another descriptor
// writes at the same time.
int takeBlocks(int fd, off_t bytes) {
  int error = 0;
  do {
    error = ::fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, bytes) == 0 ? 0 : errno;
  } while (error == EINTR);
  return error;
}

void nameThisThread(const char* name) { pthread_setname_np(pthread_self(), name); }

const char* unsafeFileSystem(const std::string& directory) {
  struct statfs status;
  if (::statfs(directory.c_str(), &status) != 0) return nullptr;
  switch (static_cast<unsigned long>(status.f_type) & 0xFFFFFFFF) {
    case NFS_SUPER_MAGIC: return "NFS";
    case SMB_SUPER_MAGIC:
    case CIFS_SUPER_MAGIC:
    case SMB2_SUPER_MAGIC: return "SMB";
    case LUSTRE_SUPER_MAGIC: return "Lustre";
    case AFS_SUPER_MAGIC: return "AFS";
    case CEPH_SUPER_MAGIC: return "Ceph";
    case FUSE_SUPER_MAGIC: return "FUSE";
    case V9FS_MAGIC: return "9p";
    default: return nullptr;
  }
}

bool isLocalFileSystem(const std::string& directory) {
  struct statfs status;
  if (::statfs(directory.c_str(), &status) != 0) return false;
  switch (static_cast<unsigned long>(status.f_type) & 0xFFFFFFFF) {
    case EXT4_SUPER_MAGIC:  // ext2 and ext3, too
    case kXfsMagic:
    case BTRFS_SUPER_MAGIC:
    case kBcachefsMagic:
    case TMPFS_MAGIC:
    case RAMFS_MAGIC:
    case OVERLAYFS_SUPER_MAGIC:
    case kZfsMagic:
    case kF2fsMagic:
    case kNtfs3Magic:
    case MSDOS_SUPER_MAGIC:
    case kExfatMagic: return true;
    default: return false;
  }
}

}  // namespace os_mutex
