#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <cstring>

#include "lock_file.h"
#include "../process_identity.h"

namespace os_mutex {
namespace {

std::string readSmallFile(const std::string& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char buffer[2048];
  const ssize_t count = file ? ::read(file.get(), buffer, sizeof buffer) : 0;
  return {buffer, count > 0 ? static_cast<size_t>(count) : 0};
}

}  // namespace

// proc(5): field 22 is the start time. Field 2, the command, is in parentheses and may hold anything, so count from the last ')'.
uint64_t processStart(long pid) {
  const std::string stat = readSmallFile("/proc/" + std::to_string(pid) + "/stat");
  size_t at = stat.rfind(')');
  if (at == std::string::npos) return 0;
  for (int field = 2; field < 22; field++) {
    at = stat.find(' ', at + 1);
    if (at == std::string::npos) return 0;
  }
  // A zombie has ended: it holds nothing any more.
  const size_t state = stat.rfind(')') + 2;
  if (state < stat.size() && (stat[state] == 'Z' || stat[state] == 'X')) return 0;
  return std::strtoull(stat.c_str() + at + 1, nullptr, 10);
}

const ProcessIdentity& currentProcessIdentity() {
  static const ProcessIdentity identity = [] {
    ProcessIdentity self;
    self.pid = ::getpid();
    self.start = processStart(self.pid);
    char host[HOST_NAME_MAX + 1] = {};
    ::gethostname(host, sizeof host - 1);
    self.host = host;
    self.bootId = readSmallFile("/proc/sys/kernel/random/boot_id");
    while (!self.bootId.empty() && self.bootId.back() == '\n') self.bootId.pop_back();
    struct stat status;
    if (::stat("/proc/self/ns/pid", &status) == 0) self.pidSpace = status.st_ino;
    return self;
  }();
  return identity;
}

}  // namespace os_mutex
