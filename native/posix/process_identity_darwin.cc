#include <sys/sysctl.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <csignal>

#include "../process_identity.h"

namespace os_mutex {

// If the system reports nothing (sandbox_init(3) can forbid it), kill(2) still shows whether the process exists.
uint64_t processStart(long pid) {
  // To kill(2), 0 and less are groups of processes.
  if (pid <= 0 || pid > INT_MAX) return 0;
  struct kinfo_proc info = {};
  size_t size = sizeof info;
  int query[] = {CTL_KERN, KERN_PROC, KERN_PROC_PID, static_cast<int>(pid)};
  if (::sysctl(query, 4, &info, &size, nullptr, 0) != 0) {
    return ::kill(static_cast<pid_t>(pid), 0) == 0 || errno == EPERM ? kUnknownStart : 0;
  }
  if (size == 0 || info.kp_proc.p_stat == SZOMB) return 0;
  const struct timeval start = info.kp_proc.p_starttime;
  return static_cast<uint64_t>(start.tv_sec) * 1000000u + static_cast<uint64_t>(start.tv_usec);
}

ProcessIdentity identityOf(long pid) {
  ProcessIdentity found;
  found.pid = pid;
  found.start = processStart(pid);
  return found;
}

const ProcessIdentity& currentProcessIdentity() {
  static const ProcessIdentity identity = [] {
    ProcessIdentity self;
    self.pid = ::getpid();
    self.start = processStart(self.pid);
    if (self.start == kUnknownStart) self.start = 0;
    char host[_POSIX_HOST_NAME_MAX + 1] = {};
    ::gethostname(host, sizeof host - 1);
    self.host = host;
    char boot[64] = {};
    size_t size = sizeof boot - 1;
    if (::sysctlbyname("kern.bootsessionuuid", boot, &size, nullptr, 0) == 0) self.bootId = boot;
    return self;
  }();
  return identity;
}

}  // namespace os_mutex
