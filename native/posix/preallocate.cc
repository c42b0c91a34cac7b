#include <fcntl.h>

#include <cerrno>

#include "lock_file.h"
#include "os.h"
#include "../preallocate.h"

namespace os_mutex {

Preallocation preallocate(const std::string& path, uint64_t bytes) {
  const Descriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file) return Preallocation::unsupported;
  switch (takeBlocks(file.get(), static_cast<off_t>(bytes))) {
    case 0: return Preallocation::done;
    case ENOSPC:
    case EDQUOT: return Preallocation::noRoom;
    case EFBIG: return Preallocation::tooLarge;
    default: return Preallocation::unsupported;
  }
}

}  // namespace os_mutex
