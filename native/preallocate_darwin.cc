#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "preallocate.h"

namespace os_mutex {

Preallocation preallocate(const std::string& path, uint64_t bytes) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return Preallocation::unsupported;
  struct stat file;
  if (::fstat(fd, &file) != 0) {
    ::close(fd);
    return Preallocation::unsupported;
  }
  // Counted from what the file has by now, not from its beginning.
  const off_t missing = static_cast<off_t>(bytes) - static_cast<off_t>(file.st_blocks) * 512;
  fstore_t store = {F_ALLOCATEALL, F_PEOFPOSMODE, 0, missing, 0};
  const int error = missing <= 0 || ::fcntl(fd, F_PREALLOCATE, &store) == 0 ? 0 : errno;
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
