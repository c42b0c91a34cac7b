// What Linux and macOS do differently under the POSIX files: os_linux.cc and os_darwin.cc.
#pragma once

#include <sys/stat.h>

#include <cerrno>

#include <string>

#include "lock_file.h"

namespace os_mutex {

// Of a system call that failed with this errno.
inline FailureKind failureKindOf(int error) {
  return error == EMFILE || error == ENFILE ? FailureKind::noDescriptors : FailureKind::system;
}

// Makes a file of this mode, which `fill` writes before it has a name, and which has no other name before. 0 or errno:
// EEXIST when something is there, ENOTSUP where there is no such way.
int createWhole(const std::string& path, mode_t mode, void (*fill)(int fd));

// rename(2) that fails with EEXIST instead of replacing. 0 or errno.
int renameNoReplace(const char* from, const char* to);

// What `path` itself (no link followed) leads to: the file that `file` describes, another one, none, or it can't be
// told.
enum class NameState { same, other, missing, unknown };
NameState lookUp(const char* path, const struct stat& file);

// The calling thread's. `mounts` is 0 where there are no namespaces.
View currentView();

// Makes the system's cleaners of temporary files skip the file, or not any more. False: there is no such way, or not
// for this user.
bool shieldFromCleaners(int fd, bool on);

enum class KernelWord { held, free, unknown };
// Whether somebody holds a flock on the file, without taking it. `pid`: the owner, where the kernel tells, else 0.
KernelWord askKernel(int fd, const struct stat& file, long& pid);

// Takes disk blocks for what `bytes` bytes from the file's beginning need beyond what it has, and leaves its size. 0 or
// errno.
int takeBlocks(int fd, off_t bytes);

// Shown by debuggers and `ps -L`.
void nameThisThread(const char* name);

}  // namespace os_mutex
