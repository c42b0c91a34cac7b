// The folder that record files lie in, and the opening of files in it.
//
// Every user may make %ProgramData%\os-mutex before we do. The user who made it can turn it into a junction that leads
// elsewhere, between our look at it and our use of it. So nothing is used by its path:
//
//   1. The folder is opened without following a link, and looked at by its handle. Any owner will do.
//   2. A file is opened or made relative to that handle. OBJ_DONT_REPARSE: if the folder has become a junction
//      meanwhile, or the name leads elsewhere, the kernel refuses in the same step, before anything is made.
//   3. A file is made only where there is none.
//
// https://learn.microsoft.com/windows/win32/api/ntdef/nf-ntdef-initializeobjectattributes
#pragma once

#include "../platform_mutex.h"
#include "handle.h"

namespace os_mutex {

enum class IfMissing { fail, make };

// Opens the record file of a mutex. No handle: `failure` says why. A missing folder fails with ERROR_PATH_NOT_FOUND,
// except that IfMissing::make makes the default lock home. The file may be anything but a folder: the caller checks it.
Handle openInLockHome(const MutexLocation& location, IfMissing ifMissing, Failure& failure);

}  // namespace os_mutex
