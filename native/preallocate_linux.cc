#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

#include "preallocate.h"

namespace os_mutex {

// Not posix_fallocate: where the file system can't, the C library writes zeros instead, over what another descriptor writes at the time.
Preallocation preallocate(const std::string& path, uint64_t bytes) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return Preallocation::unsupported;
  int error = 0;
  do {
    error = ::fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(bytes)) == 0 ? 0 : errno;
  } while (error == EINTR);
  ::close(fd);
  switch (error) {
    case 0: return Preallocation::done;
    case ENOSPC:
    case EDQUOT: return Preallocation::noRoom;
    case EFBIG: return Preallocation::tooLarge;
    default: return Preallocation::unsupported;
  }
}

}  // namespace os_mutex
