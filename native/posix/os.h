// What Linux and macOS do differently under the POSIX files: os_linux.cc and os_darwin.cc.
#pragma once

#include <sys/stat.h>

#include <cerrno>

#include <string>

#include "lock_file.h"

namespace os_mutex {

// The kind of a system call's failure with this errno.
inline FailureKind failureKindOf(int error) {
  return error == EMFILE || error == ENFILE ? FailureKind::noDescriptors : FailureKind::system;
}

// Creates a file of this mode, and lets `fill` write it before it has any name. 0 or errno: EEXIST if something has the
// name, ENOTSUP if the system has no such way.
int createWhole(const std::string& path, mode_t mode, void (*fill)(int fd));

// rename(2) that fails with EEXIST instead of replacing. 0 or errno.
int renameNoReplace(const char* from, const char* to);

// What `path` itself (no link followed) leads to: the file that `file` describes, another one, none, or unknown.
enum class NameState { same, other, missing, unknown };
NameState lookUp(const char* path, const struct stat& file);

// The calling thread's view. `mounts` is 0 where there are no namespaces.
View currentView();

// Makes the system's cleaners of temporary files skip the file, or ends that. False: the system has no such way, or not
// for this user.
bool shieldFromCleaners(int fd, bool on);

enum class KernelWord { held, free, unknown };
// Whether somebody holds a flock on the file, without taking it. `pid`: the owner if the kernel reports it, else 0.
KernelWord askKernel(int fd, const struct stat& file, long& pid);

// Reserves the disk blocks that the file's first `bytes` bytes need beyond what it has. Its size stays. 0 or errno.
int takeBlocks(int fd, off_t bytes);

// Shown by debuggers and `ps -L`.
void nameThisThread(const char* name);

}  // namespace os_mutex
