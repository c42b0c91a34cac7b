#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>

#include "../process_identity.h"
#include "proc_linux.h"

namespace os_mutex {
namespace {

// proc(5): field 22 is the start time. Field 2, the command, is in parentheses and may hold anything, so count from the
// last ')'.
uint64_t startIn(const std::string& stat) {
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

// Asks without /proc, which may hide other users' processes (hidepid), not be mounted, or be another pid namespace's.
// There may also be no descriptor left to read it with. EPERM means that the process exists, too.
uint64_t startOfUnseen(long pid) { return ::kill(static_cast<pid_t>(pid), 0) == 0 || errno == EPERM ? kUnknownStart : 0; }

uint64_t pidSpaceOf(const std::string& process) {
  struct stat status;
  return ::stat(("/proc/" + process + "/ns/pid").c_str(), &status) == 0 ? status.st_ino : 0;
}

}  // namespace

uint64_t processStart(long pid) {
  // To kill(2), 0 and less are groups of processes.
  if (pid <= 0 || pid > INT_MAX) return 0;
  std::string stat;
  const bool isTold = procCountsAsWeDo() && readProc("/proc/" + std::to_string(pid) + "/stat", stat);
  return isTold ? startIn(stat) : startOfUnseen(pid);
}

// pid_namespaces(7): NSpid has the pid in each namespace that the process is in, from that of the mounted /proc
// inwards.
ProcessIdentity identityOf(long pid) {
  if (pid == ::getpid()) return currentProcessIdentity();
  ProcessIdentity found;
  found.start = processStart(pid);
  if (found.start == 0 || found.start == kUnknownStart) return found;
  const std::string process = std::to_string(pid);
  std::string status;
  if (readProc("/proc/" + process + "/status", status)) {
    const std::string pids = procField(status, "NSpid:");
    found.pid = std::strtol(pids.c_str() + pids.find_last_of(" \t") + 1, nullptr, 10);
  }
  // Known only for a process that this user may trace. Otherwise the pid and the start must be enough.
  found.pidSpace = pidSpaceOf(process);
  return found;
}

const ProcessIdentity& currentProcessIdentity() {
  static const ProcessIdentity identity = [] {
    ProcessIdentity self;
    self.pid = ::getpid();
    // By the name "self", since a sandbox's /proc may know this process by another pid.
    std::string text;
    if (readProc("/proc/self/stat", text)) self.start = startIn(text);
    char host[HOST_NAME_MAX + 1] = {};
    ::gethostname(host, sizeof host - 1);
    self.host = host;
    if (readProc("/proc/sys/kernel/random/boot_id", text)) self.bootId = text.substr(0, text.find('\n'));
    self.pidSpace = pidSpaceOf("self");
    return self;
  }();
  return identity;
}

}  // namespace os_mutex
