// A poor file system, for whoever asks while this is preloaded: it knows no locks below the folder NO_LOCKS_BELOW, and the
// user's quota is used up below NO_QUOTA_BELOW.
#include <dlfcn.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

bool is_below(const int fd, const char* const variable) {
  const char* const folder = std::getenv(variable);
  if (folder == nullptr) return false;
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  char path[4096] = {};
  return ::readlink(link.c_str(), path, sizeof path - 1) > 0 && std::strncmp(path, folder, std::strlen(folder)) == 0;
}

template <typename Result, typename... Arguments>
Result real_or(const int error, const char* const variable, const char* const name, const int fd, Arguments... arguments) {
  if (is_below(fd, variable)) {
    errno = error;
    return -1;
  }
  return reinterpret_cast<Result (*)(int, Arguments...)>(::dlsym(RTLD_NEXT, name))(fd, arguments...);
}

constexpr auto no_locks = "NO_LOCKS_BELOW";
constexpr auto no_quota = "NO_QUOTA_BELOW";

}  // namespace

extern "C" int flock(int fd, int operation) noexcept {
  return real_or<int>(ENOLCK, no_locks, "flock", fd, operation);
}

extern "C" ssize_t pwrite(int fd, const void* bytes, size_t count, off_t at) {
  return real_or<ssize_t>(EDQUOT, no_quota, "pwrite", fd, bytes, count, at);
}

extern "C" ssize_t pwrite64(int fd, const void* bytes, size_t count, off64_t at) {
  return real_or<ssize_t>(EDQUOT, no_quota, "pwrite64", fd, bytes, count, at);
}

extern "C" ssize_t pwritev(int fd, const struct iovec* parts, int count, off_t at) {
  return real_or<ssize_t>(EDQUOT, no_quota, "pwritev", fd, parts, count, at);
}

extern "C" ssize_t pwritev64(int fd, const struct iovec* parts, int count, off64_t at) {
  return real_or<ssize_t>(EDQUOT, no_quota, "pwritev64", fd, parts, count, at);
}
