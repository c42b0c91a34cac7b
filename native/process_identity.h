// What distinguishes one process from every other, also from a later one with the same pid.
#pragma once

#include <cstdint>
#include <string>

namespace os_mutex {

struct ProcessIdentity {
  long pid = 0;
  uint64_t start = 0;     // in the kernel's unit: clock ticks since boot (Linux), microseconds since 1970 (macOS, Windows)
  std::string host;
  std::string bootId;     // changes with every boot (Linux, macOS)
  uint64_t pidSpace = 0;  // the pid namespace that pids belong to (Linux), else 0
};

const ProcessIdentity& currentProcessIdentity();

// Start time of a process that may be running, but whose start time the system does not report (for example, another
// user's).
constexpr uint64_t kUnknownStart = UINT64_MAX;

// Start time of a process by its pid; 0 when there is none.
uint64_t processStart(long pid);

// How the process with this pid identifies itself. A process in a container has another pid inside. Only pid, start and
// pidSpace are filled in; what the system does not report is 0 (`start`: kUnknownStart). `start` 0: there is no such
// process.
ProcessIdentity identityOf(long pid);

}  // namespace os_mutex
